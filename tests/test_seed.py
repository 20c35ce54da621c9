from __future__ import annotations

import random
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch

from trainkit.errors import ConfigError
from trainkit.seed import RandomStream, isolate_rng, rng_state, same_rng_state, seed_everything, set_rng_state, storable

DRAWS: dict[str, Callable[[], Any]] = {
    "torch": lambda: torch.rand(3).tolist(),
    "random": lambda: (random.random(), random.gauss(0.0, 1.0)),  # a second number of a pair is kept for the next call
    "numpy": lambda: (np.random.rand(), np.random.randn()),
}


def draw() -> list[Any]:
    return [once() for once in DRAWS.values()]


def in_early_form(state: dict[str, Any]) -> dict[str, Any]:
    """As it was written before Python's state became a tensor."""
    version, internal, gauss = state["random"]
    return {**state, "random": (version, tuple(internal.tolist()), gauss)}


@pytest.mark.parametrize("drawn_before", [0, 1, 700])
def test_generators_go_on_from_a_state_that_was_saved(drawn_before: int) -> None:
    with isolate_rng():
        for _ in range(drawn_before):
            draw()
        file = BytesIO()
        torch.save(rng_state(), file)
        expected = [draw() for _ in range(3)]

        file.seek(0)
        set_rng_state(torch.load(file, weights_only=True))
        assert [draw() for _ in range(3)] == expected


def test_a_state_in_the_early_form_is_taken_back() -> None:
    with isolate_rng():
        random.gauss(0.0, 1.0)
        early = {**rng_state(), "random": random.getstate()}
        expected = draw()

        set_rng_state(early)
        assert draw() == expected


def test_the_state_of_python_is_one_tensor_with_the_numbers_of_python() -> None:
    version, internal, gauss = rng_state()["random"]

    assert internal.dtype == torch.int64 and internal.shape == (625,)
    assert (version, tuple(internal.tolist()), gauss) == random.getstate()


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_from_any_generator_makes_another_state(name: str) -> None:
    with isolate_rng():
        before = rng_state()
        assert same_rng_state(before, rng_state())
        DRAWS[name]()
        assert not same_rng_state(before, rng_state())


@pytest.mark.parametrize("cached", [random.gauss, lambda *_: np.random.randn()])
def test_a_number_that_is_kept_for_the_next_call_makes_another_state(cached: Callable[..., float]) -> None:
    with isolate_rng():
        cached(0.0, 1.0)
        before = rng_state()
        cached(0.0, 1.0)  # the second of the pair: no generator moves
        assert not same_rng_state(before, rng_state())


def test_isolated_draws_change_nothing_outside() -> None:
    before = rng_state()
    with pytest.raises(ValueError, match="inside"), isolate_rng():
        draw()
        raise ValueError("inside")
    assert same_rng_state(before, rng_state())


def test_a_stream_draws_its_own_numbers_and_outside_nothing_is_drawn() -> None:
    before = rng_state()
    stream, twin, other = RandomStream.branch(1), RandomStream.branch(1), RandomStream.branch(2)
    with stream:
        first = draw()
    with stream:
        second = draw()
    with twin:
        assert [draw(), draw()] == [first, second]
    with other:
        assert draw() != first
    assert same_rng_state(before, rng_state())


@pytest.mark.parametrize("form", [dict, in_early_form])
def test_a_stream_goes_on_from_its_state(form: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    stream = RandomStream.branch(1)
    with stream:
        draw()
    resumed = RandomStream.from_state(form(storable(stream.states)))
    # Kept until it is used, it is saved again in the form of today.
    assert same_rng_state(storable(resumed.states), storable(stream.states))
    with stream:
        expected = draw()
    with resumed:
        assert draw() == expected


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "-1", "one", None, "9" * 5000])
def test_a_seed_that_numpy_would_not_take_is_refused(seed: Any) -> None:
    with pytest.raises(ConfigError, match=r"seed=.* must be a whole number from 0 to 4294967295"):
        seed_everything(seed)


def test_a_seed_that_python_writes_in_no_digits_is_refused() -> None:
    for seed in (16**5000, -(16**5000)):  # of a parameter of a test there is a text
        with pytest.raises(ConfigError, match=r"seed=\(a number of thousands of digits\) must be"):
            seed_everything(seed)


@pytest.mark.parametrize("seed", ["4", np.int64(4), np.uint8(4)])
def test_a_seed_may_be_of_numpy_or_of_a_command_line(seed: Any) -> None:
    with isolate_rng():
        seed_everything(4)
        expected = draw()
        given = seed_everything(seed)
        assert (type(given), given, draw()) == (int, 4, expected)


def test_a_seed_decides_all_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINKIT_SEED", raising=False)
    with isolate_rng():
        seed_everything(3)
        first = draw()
        seed_everything(3)
        assert draw() == first
