"""trainkit's own parts keep the contracts, and parts that break a promise do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainkit.loggers import CSVLogger, Logger, TensorBoardLogger
from trainkit.module import TrainModule
from trainkit.precision.base import Precision
from trainkit.precision.dtypes import BFloat16, Float32, Float64, MixedBFloat16
from trainkit.precision.mixed_float16 import MixedFloat16
from trainkit.strategies import DDP, DataParallel, SingleDevice, Strategy
from trainkit.testing import check_logger, check_precision, check_strategy


def _same(made: Any) -> Any:
    return made


@pytest.mark.filterwarnings("ignore:strategy 'dp'")
@pytest.mark.parametrize("make", [SingleDevice, DDP, DataParallel])
def test_own_strategies_keep_the_contract(make: Callable[[], Strategy]) -> None:
    check_strategy(make)


class Forgets(SingleDevice):
    name = "forgets"

    def training_step(self, module: TrainModule) -> Callable[..., Any]:
        return lambda batch, batch_idx: 2 * module.training_step(batch, batch_idx)


class Renames(SingleDevice):
    name = "renames"

    def module_state_dict(self, module: TrainModule) -> dict[str, Any]:
        return {f"module.{name}": value for name, value in module.state_dict().items()}


class Rounds(SingleDevice):
    name = "rounds"

    def evaluation_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def rounded(*arguments: Any) -> Any:
            output = step(*arguments)
            return output.round() if isinstance(output, torch.Tensor) else output

        return rounded


class Nameless(SingleDevice):
    name = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Forgets, "layer"),
        (Renames, "not those of the module"),
        (Rounds, "gives other predictions"),
        (Nameless, "has no name"),
        (lambda: "ddp", "is no Strategy"),
        (partial(_same, SingleDevice()), "a new strategy at each call"),
    ],
)
def test_a_strategy_that_breaks_a_promise_is_told(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_strategy(make)


@pytest.mark.parametrize("make", [Float32, Float64, BFloat16, MixedBFloat16, MixedFloat16])
def test_own_precisions_keep_the_contract(make: Callable[[], Precision]) -> None:
    check_precision(make)


class Scales(Precision):
    """Scales the loss, and never back."""

    name = "scales"

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        (1.5 * loss).backward()


class Climbs(Precision):
    name = "climbs"

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        (-loss).backward()


class Counts(Precision):
    """Counts, and forgets that when it goes on."""

    name = "counts"

    def __init__(self) -> None:
        self.count = 0

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        self.count += 1
        loss.backward()

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Scales, "true size"),
        (Climbs, "have not lowered the loss"),
        (Counts, "count"),
        (lambda: "16-mixed", "is no Precision"),
        (partial(_same, Float32()), "a new precision at each call"),
    ],
)
def test_a_precision_that_breaks_a_promise_is_told(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_precision(make)


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_own_loggers_keep_the_contract(kind: Any, tmp_path: Path) -> None:
    check_logger(kind, tmp_path)


class Loud(Logger):
    """Writes when it is made."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.txt").write_text("made")

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None: ...


class Once(Logger):
    """Can be closed once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows: list[Any] | None = []

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None: ...

    def finalize(self, status: Any) -> None:
        assert self.rows is not None, "closed twice"
        self.rows = None


@pytest.mark.parametrize(
    ("make", "told"),
    [(Loud, "dev run has written"), (Once, "closed twice"), (lambda folder: nn.Linear(1, 1), "no Logger")],
)
def test_a_logger_that_breaks_a_promise_is_told(make: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=told):
        check_logger(make, tmp_path)
