from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trainkit
from trainkit import checks
from trainkit.callbacks import EarlyStopping, ModelCheckpoint, Timer
from trainkit.checks import (
    clipping,
    flag,
    is_number,
    is_share,
    is_whole,
    number,
    one_of,
    seconds,
    share,
    takes_numpy,
    whole,
    without_numpy,
)
from trainkit.data import TensorLoader
from trainkit.errors import ConfigError, DataError, UnknownArgumentError, UnknownNameError

NEITHER = [True, False, None, "1", [1], math.nan]
"""Neither a number nor a share."""


def refused(check: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("value", NEITHER)
def test_flags_text_and_nan_are_no_numbers(value: object) -> None:
    assert not is_whole(value) and not is_number(value) and not is_share(value)


def test_bounds_are_allowed_themselves() -> None:
    assert [value for value in range(-3, 6) if is_whole(value, at_least=-1, at_most=2)] == [-1, 0, 1, 2]
    assert [value for value in (-0.1, 0, 0.5, 1.0, 1.1) if is_number(value, at_least=0, at_most=1)] == [0, 0.5, 1.0]
    assert is_whole(-(10**30)) and is_number(-math.inf) and not is_whole(1.0)


def test_a_share_is_a_float() -> None:
    assert [value for value in (0, 1, 0.0, 0.5, 1.0, 1.5, -0.5, math.inf) if is_share(value)] == [0.0, 0.5, 1.0]
    assert not is_share(1)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({}, "a whole number of at least 0."),
        ({"at_least": 1, "optional": True}, "a whole number of at least 1, or None."),
        ({"at_least": -1}, "a whole number of at least -1 (-1 means no limit)."),
        ({"at_least": -1, "meaning": "-1 for all"}, "a whole number: -1 for all."),
        ({"at_most": 9}, "a whole number from 0 to 9."),
    ],
)
def test_what_is_no_whole_number_is_told_what_is_allowed(options: dict[str, Any], allowed: str) -> None:
    assert refused(whole, "steps", "ten", **options) == f"steps='ten' must be {allowed}"


def test_whole_numbers_have_bounds() -> None:
    whole("steps", 0)
    whole("steps", None, optional=True)
    whole("steps", 3, at_least=3, at_most=3)
    refused(whole, "steps", None)
    refused(whole, "steps", 2, at_least=3)
    refused(whole, "steps", 4, at_most=3)


def test_an_owner_and_a_kind_of_error_can_be_given() -> None:
    assert refused(whole, "patience", -1, where="EarlyStopping").startswith("EarlyStopping: patience=-1 must be")
    with pytest.raises(DataError, match="batch_size=0 must be a whole number of at least 1"):
        whole("batch_size", 0, at_least=1, error=DataError)
    with pytest.raises(DataError, match="limit=2.5 must be a number of batches"):
        share("", "limit", 2.5, error=DataError)


def test_numbers_have_bounds() -> None:
    number("decay", 0.5, at_least=0, at_most=1)
    number("decay", None, optional=True)
    number("delta", math.inf, at_least=0)
    assert refused(number, "decay", 1.5, at_least=0, at_most=1) == "decay=1.5 must be a number from 0 to 1."
    assert refused(number, "delta", -1, at_least=0, where="A") == "A: delta=-1 must be a number of at least 0."
    refused(number, "delta", math.inf, at_least=0, finite=True)
    for value in NEITHER:
        refused(number, "delta", value)


def test_gradients_are_clipped_at_a_bound_by_a_known_algorithm() -> None:
    for value in (None, 0, 0.5, math.inf):
        for algorithm in (None, "norm", "value"):
            clipping(value, algorithm)
    for wrong in (-1.0, *NEITHER):
        if wrong is not None:
            assert "must be a number of at least 0 (not negative), or None" in refused(clipping, wrong, "norm")
    with pytest.raises(UnknownNameError, match="(?s)'nrom'.*Trainer.*did you mean 'norm'"):
        clipping(1.0, "nrom", "Trainer")


def test_only_true_and_false_are_flags() -> None:
    flag("strict", True)
    flag("strict", False)
    for value in (0, 1, None, "yes"):
        assert refused(flag, "strict", value) == f"strict={value!r} must be True or False."


def test_an_unknown_choice_is_told_the_nearest_one() -> None:
    one_of("mode", "min", ("min", "max"))
    with pytest.raises(UnknownNameError, match="(?s)unknown mode 'mx'.*EarlyStopping.*did you mean 'max'"):
        one_of("mode", "mx", ("min", "max"), "EarlyStopping")
    with pytest.raises(UnknownNameError, match="unknown mode 'None'"):
        one_of("mode", None, ("min", "max"))


@pytest.mark.parametrize("value", [0, 5, 0.0, 0.25, 1.0])
def test_batches_are_counted_or_a_share(value: float) -> None:
    share("Trainer", "limit", value)


@pytest.mark.parametrize("value", [-1, -0.5, 1.5, math.inf, *NEITHER])
def test_what_is_neither_count_nor_share_is_refused(value: object) -> None:
    text = refused(share, "", "limit", value)
    assert text.startswith(f"limit={value!r} must be a number of batches (int) or a share from 0.0 to 1.0 (float).")


def test_a_float_that_is_whole_may_have_been_meant_as_a_count() -> None:
    assert refused(share, "Trainer", "limit", 10.0).endswith("Did you mean limit=10?")


@pytest.mark.parametrize(
    "value",
    [
        "00:01:30:05",
        timedelta(hours=1, minutes=30, seconds=5),
        {"minutes": 90, "seconds": 5},
        "5405 s",
        "5_405 seconds",
    ],
)
def test_durations_come_in_four_forms(value: Any) -> None:
    assert seconds("max_time", value) == 5405


def test_a_number_of_a_unit_of_time_is_a_duration() -> None:
    assert [seconds("max_time", text) for text in ("0s", "1.5 min", "2h", " 1 day ", "1k s")] == [
        *(0, 90, 7200, 86400, 1000)
    ]
    for wrong in ("2 H", "2 hrs", "2", "h", "-2 h", "2 h 3 min", "10 steps", "9" * 99 + " d"):
        with pytest.raises(ConfigError, match=re.escape(f"max_time={wrong!r} is not a duration")):
            seconds("max_time", wrong)


def test_what_is_wrong_with_a_duration_is_told() -> None:
    assert "is not a duration: it has the unit 'm', which there is not. Did you mean '30 min'? Allowed" in refused(
        partial(seconds, "max_time"), "30m"
    )


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("max_steps", "100 steps", 100),
        ("max_epochs", "1 epoch", 1),
        ("max_steps", "1k", 1000),
        ("every_n_step", "2", 2),
    ],
)
def test_a_unit_is_left_out_where_the_argument_has_it(name: str, given: str, meant: int) -> None:
    assert refused(whole, name, given).endswith(f". Write {name}={meant}, without a unit or quotes.")
    assert refused(share, "Trainer", "limit_batches", "2 batches").endswith(
        "Write limit_batches=2, without a unit or quotes."
    )


@pytest.mark.parametrize("given", ["10k samples", "1.5 steps", "1 epoch", "9" * 5000 + " steps", "none", ""])
def test_where_it_counts_something_else_nothing_is_proposed(given: str) -> None:
    assert refused(whole, "max_steps", given).endswith("of at least 0.")


def test_no_duration_never_ends() -> None:
    assert seconds("max_time", None) == math.inf


@pytest.mark.parametrize("value", [5, "1:30", "a:b:c:d", {"hour": 1}, ["1"]])
def test_what_is_no_duration_is_refused(value: Any) -> None:
    assert refused(partial(seconds, "max_time"), value).startswith(
        f"max_time={value!r} is not a duration. Allowed: a number"
    )


@pytest.mark.parametrize(
    ("check", "allowed", "refused"),
    [
        (checks.flags, [True, False, 1, 0], ["no", 2, 0.0, math.nan, None]),
        (checks.text, ["", "a"], [1, b"a", None]),
        (checks.file_path, ["a", Path("a"), None], [1, b"a", True]),
        (checks.function, [len, lambda: 1], [1, "len", None]),
    ],
)
def test_values_of_a_kind_are_told_from_others(check, allowed, refused):
    for value in allowed:
        check("Owner", argument=value)
    for value in refused:
        with pytest.raises(ConfigError, match=f"Owner: argument={re.escape(repr(value))} must be"):
            check("Owner", argument=value)


@pytest.mark.parametrize("check", [checks.flags, checks.text, checks.function])
def test_none_is_allowed_where_it_is_said(check):
    check("Owner", optional=True, argument=None)


def test_a_device_is_told_by_its_name():
    assert checks.named_device("Owner", "cpu") == torch.device("cpu")
    assert checks.named_device("Owner", None) is None
    for wrong in ("gpuu", 1.5, True, -1, []):
        with pytest.raises(ConfigError, match=r"Owner: devices=.* must be a torch.device, or the name of one"):
            checks.named_device("Owner", wrong, "devices")


@pytest.mark.parametrize("value", ["-1:00:00:00", timedelta(seconds=-1), {}, {"hours": -1}])
def test_a_duration_is_not_negative_and_not_nothing(value):
    with pytest.raises(ConfigError, match="is not a duration"):
        checks.seconds("max_time", value)


@pytest.mark.parametrize("value", [0, -1, math.nan, True, "1"])
def test_a_number_may_have_to_be_above_another(value):
    checks.number("timeout", 0.5, above=0)
    with pytest.raises(ConfigError, match=r"must be a number above 0\."):
        checks.number("timeout", value, above=0)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (np.str_("min"), "min"),
        ({np.int64(0): np.int64(2)}, {0: 2}),
        ([np.int64(0), (np.int64(1), "a")], [0, (1, "a")]),
    ],
)
def test_numpy_gives_numbers_of_python(given: object, plain: object) -> None:
    # Not only equal: np.float64(0.1) is equal to 0.1, and in no checkpoint.
    assert repr(without_numpy(given)) == repr(plain)


@pytest.mark.parametrize("given", [3, "a", {0: [1, 2]}, [1, (2, {"a": torch.ones(2)})], np.ones(2), None])
def test_what_holds_no_number_of_numpy_stays_the_object_it_is(given: object) -> None:
    assert without_numpy(given) is given


def test_arguments_of_numpy_arrive_as_numbers_of_python() -> None:
    @takes_numpy
    def function(first: int, *, second: object) -> str:
        """What it does."""
        return repr((first, second))

    assert function(np.int64(1), second={"a": np.bool_(False)}) == "(1, {'a': False})"  # type: ignore[arg-type]
    assert function.__doc__ == "What it does." and list(inspect.signature(function).parameters) == ["first", "second"]


def test_an_argument_that_does_not_exist_is_named_with_the_nearest_that_does() -> None:
    class Owner:
        @takes_numpy
        def __init__(self, every: int = 1, *, name: str = "") -> None:
            self.every = every

    class Heir(Owner):
        def __init__(self, **more: Any) -> None:
            super().__init__(**more)

    for each in (Owner, Heir):
        with pytest.raises(
            UnknownArgumentError, match=r"unknown argument 'evry'.\n(.|\n)*Owner\(\.\.\.\)(.|\n)*mean 'every'"
        ):
            each(evry=2)
    with pytest.raises(TypeError, match="self"):
        Owner(self=1)  # type: ignore[call-overload, misc]
    assert Owner(2, name="a").every == 2


def test_whatever_name_is_taken_where_any_is() -> None:
    @takes_numpy
    def function(**more: object) -> dict[str, object]:
        return more

    assert function(evry=np.int64(2)) == {"evry": 2}


def _public_classes() -> list[type]:
    found = {
        value
        for module in (trainkit, trainkit.callbacks, trainkit.loggers, trainkit.data, trainkit.strategies)
        for value in (getattr(module, name) for name in module.__all__)
        if inspect.isclass(value) and "__init__" in vars(value)
    }
    return sorted(found, key=lambda each: each.__qualname__)


def test_callbacks_and_loggers_name_the_nearest_argument() -> None:
    for each, wrong, meant in (
        (ModelCheckpoint, "evry", "every"),
        (EarlyStopping, "patiense", "patience"),
        (trainkit.loggers.CSVLogger, "save_dirr", "save_dir"),
        (trainkit.data.TensorLoader, "shufle", "shuffle"),
    ):
        with pytest.raises(UnknownArgumentError, match=f"did you mean '{meant}'"):
            each(**{wrong: 1})


@pytest.mark.parametrize("each", _public_classes(), ids=lambda each: each.__qualname__)
def test_a_constructor_with_numbers_takes_those_of_numpy(each: type) -> None:
    parameters = inspect.signature(vars(each)["__init__"]).parameters.values()
    numbers = [each.name for each in parameters if re.search(r"\b(int|float|bool|Duration)\b", str(each.annotation))]
    assert not numbers or hasattr(vars(each)["__init__"], "__wrapped__"), numbers


def test_values_of_a_sweep_are_kept_as_numbers_of_python(tmp_path: Path) -> None:
    trainer = trainkit.Trainer(
        max_epochs=np.int64(2),  # type: ignore[arg-type]
        limit_train_batches=np.float64(0.5),
        accumulate_grad_batches={np.int64(0): np.int64(2)},  # type: ignore[dict-item]
        gradient_clip_val=np.float32(0.5),  # type: ignore[arg-type]
        enable_progress_bar=np.bool_(False),  # type: ignore[arg-type]
        devices=np.int64(1),  # type: ignore[arg-type]
        default_root_dir=tmp_path,
    )
    stopping = EarlyStopping("loss", patience=np.int64(3), min_delta=np.float32(0.5))  # type: ignore[arg-type]
    checkpoint = ModelCheckpoint(save_top_k=np.int64(2), monitor="loss")  # type: ignore[arg-type]
    loader = TensorLoader(torch.ones(8, 1), batch_size=np.int64(4))  # type: ignore[arg-type]
    kept = (*vars(trainer.arguments.stop).values(), *vars(trainer.arguments.optimization).values())
    kept += (stopping.patience, stopping.min_delta, checkpoint.save_top_k, loader.batch_size)
    assert not any(isinstance(value, np.generic) for value in kept)
    assert trainer.max_epochs == 2 and stopping.patience == 3
    assert Timer({"hours": np.int64(2)}).time_remaining() == 7200  # type: ignore[dict-item]


def test_a_number_of_numpy_that_is_not_allowed_is_refused_as_any_other() -> None:
    with pytest.raises(ConfigError, match=r"patience=-1"):
        EarlyStopping("loss", patience=np.int64(-1))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"max_epochs=2\.0"):
        trainkit.Trainer(max_epochs=np.float64(2))  # type: ignore[arg-type]
