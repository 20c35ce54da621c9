"""States that are copied where they lie are those that the generators' own functions give."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from trainkit.generators import NumpyRandom, PythonRandom
from trainkit.seed import isolate_rng


def python_state() -> Any:
    return random.getstate()


def numpy_state() -> Any:
    name, words, *rest = np.random.get_state()
    return name, tuple(words.tolist()), *rest


KINDS = {
    "random": (PythonRandom, random, python_state, random.gauss, random.random),
    "numpy": (NumpyRandom, np.random, numpy_state, np.random.normal, np.random.rand),
}


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with isolate_rng():
        yield


@pytest.fixture(params=["in memory", "asked"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.param == "asked":
            # Another Python, and a numpy of before its generator could be exchanged.
            monkeypatch.setattr(sys, "implementation", SimpleNamespace(name="pypy"))
            monkeypatch.delattr(np.random, "get_bit_generator")
        yield str(request.param)


def as_numbers(stored: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(tuple(part.tolist()) if isinstance(part, torch.Tensor) else part for part in stored)


# 624 draws come back to the same place with other words; 7 normal numbers leave one that waits.
DRAWN = [(0, 0), (1, 0), (624, 0), (3, 7), (1000, 2)]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("uniform", "normal"), DRAWN)
def test_a_state_is_that_of_the_generators_own_function(name: str, uniform: int, normal: int) -> None:
    make, module, own_state, draw_normal, draw = KINDS[name]
    generator = make()
    generator.read()
    module.seed(5)
    for _ in range(uniform):
        draw()
    for _ in range(normal):
        draw_normal(0.0, 1.0)
    assert as_numbers(generator.storable(generator.read())) == own_state()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("first", DRAWN)
@pytest.mark.parametrize("second", DRAWN)
def test_two_that_take_turns_draw_what_each_would_draw_alone(
    name: str, first: tuple[int, int], second: tuple[int, int]
) -> None:
    make, module, own_state, draw_normal, draw = KINDS[name]

    def several(counts: tuple[int, int]) -> list[float]:
        return [draw() for _ in range(counts[0])] + [draw_normal(0.0, 1.0) for _ in range(counts[1])]

    def alone(seed: int, counts: tuple[int, int]) -> list[list[float]]:
        module.seed(seed)
        return [several(counts) for _ in range(4)]

    expected = alone(1, first), alone(2, second)
    generator = make()
    module.seed(2)
    waiting = generator.read()
    module.seed(1)
    turns: tuple[list[list[float]], list[list[float]]] = ([], [])
    for _ in range(4):
        turns[0].append(several(first))
        waiting = generator.exchange(waiting)
        turns[1].append(several(second))
        assert as_numbers(generator.storable(generator.read())) == own_state()
        waiting = generator.exchange(waiting)
    assert turns == expected


def test_a_number_that_waits_is_seen_to_be_taken_though_no_word_moves() -> None:
    generator = NumpyRandom()
    np.random.normal()
    before = generator.read()
    np.random.normal()
    after = generator.read()
    assert before[0] == after[0]
    assert before[1] is not None and after[1] is None


def test_another_generator_that_numpy_is_given_is_followed() -> None:
    generator, outside = NumpyRandom(), np.random.get_bit_generator()
    generator.read()
    try:
        np.random.set_bit_generator(np.random.MT19937(7))
        state = generator.read()
        expected = np.random.rand()
        generator.exchange(state)
        assert np.random.rand() == expected
    finally:
        np.random.set_bit_generator(outside)
    assert as_numbers(generator.storable(generator.read())) == numpy_state()


@pytest.mark.parametrize("name", KINDS)
def test_where_the_memory_is_known_nothing_is_converted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, module, _, _, draw = KINDS[name]
    generator = make()
    other = generator.read()
    draw()
    generator.read()
    asked: list[str] = []

    def noting(function: str) -> Callable[..., Any]:
        real = getattr(module, function)

        def note(*arguments: Any) -> Any:
            asked.append(function)
            return real(*arguments)

        return note

    for function in ("get_state", "set_state") if module is np.random else ("getstate", "setstate"):
        monkeypatch.setattr(module if module is np.random else random.Random, function, noting(function))
    for _ in range(3):
        other = generator.exchange(other)
    assert asked == []
