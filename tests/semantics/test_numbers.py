"""Which number a logged value reads as: drawn values of every kind, against numpy in float64."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics

from trainkit.callbacks import EarlyStopping, ModelCheckpoint
from trainkit.errors import MetricError
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer

Make = Callable[[float], Any]

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)
REAL = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
# A whole number above 2**24 has no float32, one above 65,504 no float16.
KINDS: dict[str, Make] = {
    "int": lambda x: 67_108_463 + round(x * 20_000),
    "float": lambda x: x * 1e5,
    "bool": lambda x: bool(x > 0.5),
    "np.bool": lambda x: np.bool_(x > 0.5),
    "fraction": lambda x: Fraction(round(x * 1000), 3),
    "np.float64": lambda x: np.float64(x * 1e5),
    "np.float32": lambda x: np.float32(x * 1e5),
    "np.float16": lambda x: np.float16(x * 1e3),
    "np.int64": lambda x: np.int64(67_108_463 + round(x * 20_000)),
    "long": lambda x: torch.tensor(67_108_463 + round(x * 20_000)),
    "large": lambda x: torch.tensor(x * 3e38),
    "torch.bool": lambda x: torch.tensor(x > 0.5),
    **{str(dtype): lambda x, dtype=dtype: torch.tensor(round(x * 127)).to(dtype) for dtype in WHOLE},
    **{str(dtype): lambda x, dtype=dtype: torch.tensor(x * 400).to(dtype) for dtype in REAL},
}
FLAGS = ((True, False), (False, True), (True, True))
REDUCTIONS = ("mean", "sum", "min", "max")
PRECISIONS = ("32-true", "64-true", "bf16-true", "16-true", "bf16-mixed")
SIZES = (3, 1, 4, 2, 5)


class Logs(TinyModule):
    """Logs drawn values of every kind, reduced in every way, with every flag, in training and in validation."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.drawn = np.random.default_rng(seed).random((len(SIZES), len(KINDS)))

    def log_all(self, stage: str, batch_idx: int) -> None:
        for (kind, make), x in zip(KINDS.items(), self.drawn[batch_idx], strict=True):
            for reduction, (on_step, on_epoch) in product(REDUCTIONS, FLAGS):
                self.log(
                    f"{stage}/{kind}/{reduction}/{on_step}{on_epoch}", make(x), on_step=on_step, on_epoch=on_epoch,
                    reduce_fx=reduction, batch_size=SIZES[batch_idx],
                )  # fmt: skip

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log_all("train", batch_idx)
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_all("val", batch_idx)

    def expected(self, batches: range) -> dict[tuple[str, str], float]:
        """Return the value of each kind and reduction over ``batches``, by numpy in float64."""
        sizes = [SIZES[index] for index in batches]
        found = {}
        for column, (kind, make) in enumerate(KINDS.items()):
            values = np.array([float(make(x)) for x in self.drawn[batches.start : batches.stop, column]])
            found[kind, "mean"] = float(np.average(values, weights=sizes))
            found |= {(kind, name): float(getattr(np, name)(values)) for name in ("sum", "min", "max")}
        return found


def fit(module: TinyModule, **arguments: Any) -> tuple[Any, list[dict[str, float]]]:
    """Train for an epoch; return the Trainer and the rows that loggers get."""
    recorder = Recorder(["on_log"])
    callbacks = [recorder, *arguments.pop("callbacks", [])]
    trainer = quiet_trainer(**({"max_epochs": 1, "log_every_n_steps": 1} | arguments), callbacks=callbacks)
    trainer.fit(module, TinyData(len(SIZES)), TinyData(len(SIZES)))
    return trainer, [call["metrics"] for call in recorder.arguments("on_log")]


def wrong(found: dict[str, float], expected: dict[str, float]) -> dict[str, tuple[float | None, float]]:
    """Return what differs by more than the rounding of float64."""
    return {
        name: (found.get(name), value)
        for name, value in expected.items()
        if name not in found or not math.isclose(found[name], value, rel_tol=1e-12)
    }


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_value_reads_as_the_number_that_it_is(precision: str, accumulate: int) -> None:
    module = Logs(seed=len(precision) + accumulate)
    trainer, rows = fit(module, precision=precision, accumulate_grad_batches=accumulate)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}

    whole = module.expected(range(len(SIZES)))
    epoch = {f"{kind}/{by}": value for (kind, by), value in whole.items()}
    for stage in ("train", "val"):
        expected = {f"{stage}/{name}/FalseTrue": value for name, value in epoch.items()}
        expected |= {f"{stage}/{name}/TrueTrue_epoch": value for name, value in epoch.items()}
        row = next(row for row in rows if expected.keys() <= row.keys())
        assert wrong(row, expected) == {}
        assert wrong(metrics, expected) == {}

    # The row of an update is that of the batches behind it; the last group is a short one.
    steps = [row for row in rows if "train/int/mean/TrueFalse" in row]
    groups = [range(k, min(k + accumulate, len(SIZES))) for k in range(0, len(SIZES), accumulate)]
    for row, group in zip(steps, groups, strict=True):
        for flags in ("TrueFalse", "TrueTrue_step"):
            expected = {f"train/{kind}/{by}/{flags}": value for (kind, by), value in module.expected(group).items()}
            assert wrong(row, expected) == {}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_results_of_an_evaluation_are_not_rounded(precision: str) -> None:
    module = Logs(seed=3)
    (results,) = quiet_trainer(precision=precision).validate(module, TinyData(len(SIZES)))
    whole = module.expected(range(len(SIZES)))
    assert wrong(results, {f"val/{kind}/{by}/FalseTrue": value for (kind, by), value in whole.items()}) == {}


class LogsOnce(TinyModule):
    """Logs one value in each validation."""

    def __init__(self, *values: Any) -> None:
        super().__init__()
        self.values = iter(values)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.log("score", next(self.values))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64])
def test_a_small_min_delta_is_not_rounded_away(precision: str, dtype: torch.dtype) -> None:
    # In bfloat16 255 and 0.999 are 256, which is no improvement.
    values = [torch.tensor(value).to(dtype) for value in (256, 255, 254, 254)]
    stopping = EarlyStopping("score", min_delta=0.999, patience=1)
    trainer, _ = fit(LogsOnce(*values), precision=precision, max_epochs=5, callbacks=[stopping])
    assert (trainer.current_epoch, stopping.best_score.item()) == (4, 254.0)


@pytest.mark.parametrize("make", [bool, torch.tensor], ids=["number", "tensor"])
def test_a_truth_can_be_monitored(tmp_path: Any, make: Callable[[bool], Any]) -> None:
    class Truth(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("solved", make(self.current_epoch > 0), on_step=True)
            return self.loss(batch)

    best = ModelCheckpoint(tmp_path, monitor="solved", mode="max")
    stopping = EarlyStopping("solved", mode="max", min_delta=0.5, patience=2, check_on_train_epoch_end=True)
    fit(Truth(), max_epochs=3, callbacks=[best, stopping], enable_checkpointing=True, default_root_dir=tmp_path)
    assert (best.best_model_score, stopping.best_score, stopping.wait_count) == (1.0, 1.0, 1)


def test_scores_go_on_from_a_checkpoint_as_they_were() -> None:
    first, second = EarlyStopping("score"), EarlyStopping("score")
    fit(LogsOnce(0.1), callbacks=[first])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.best_score, second.best_score)


class Silent(torchmetrics.SumMetric):
    def compute(self) -> Any:
        return None if self.sum_value == 0 else super().compute()


@pytest.mark.parametrize("total", [0.0, 2.0])
def test_a_metric_that_computes_nothing_has_no_value_and_ends_no_run(total: float) -> None:
    module = LogsOnce()
    module.metric = Silent()
    module.metric.update(total)
    module.values = iter([module.metric])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, rows = fit(module)
    assert [row["score"] for row in rows if "score" in row] == ([] if total == 0 else [2.0])
    told = [str(warning.message) for warning in caught if "returned None" in str(warning.message)]
    assert bool(told) == (total == 0)
    assert all("Silent that is logged as 'score'" in message for message in told)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_states_of_torchmetrics_do_not_become_halves(precision: str) -> None:
    module = LogsOnce()
    module.metric = torchmetrics.MeanMetric()
    module.values = iter([module.metric])
    # In bfloat16 the count of values stays at 256.
    module.on_validation_batch_end = lambda: [module.metric.update(1.0) for _ in range(200)]
    trainer, _ = fit(module, precision=precision)
    assert module.metric.weight.dtype is torch.float32
    assert trainer.callback_metrics["score"] == 1.0


@pytest.mark.parametrize("flags", FLAGS)
def test_a_complex_tensor_is_refused(flags: tuple[bool, bool]) -> None:
    class Complex(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("z", torch.tensor(1j), on_step=flags[0], on_epoch=flags[1])

    with pytest.raises(MetricError, match=r"(?s)self.log\('z'\) got a complex tensor.*value.abs\(\)"):
        fit(Complex())
