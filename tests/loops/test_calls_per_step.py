"""How many Python functions of trainkit are called in a step: what makes it slower shows here on any machine."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import trainkit
from trainkit.callbacks import CSVLogger, TensorBoardLogger
from trainkit.callbacks.progress_bar import callback as bar_callback
from trainkit.testing import TinyData, TinyModule, quiet_trainer

PACKAGE = str(Path(trainkit.__file__).parent)
COUNTED = 12
"""Steps, of which each place in an accumulation group and each interval of a schedule occurs equally often."""


class Bare(TinyModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)


class Logging(TinyModule):
    names: tuple[str, ...] = ("loss",)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        for name in self.names:
            self.log(name, loss)
        return loss


class LoggingFive(Logging):
    names = ("a", "b", "c", "d", "e")


class ValidatingOnly(Bare):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.loss(batch)


class LoggingTwo(Logging):
    names = ("a", "b")


class Scheduled(Bare):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Counted:
    """Batches, between some of which calls are counted: from index ``first`` on."""

    def __init__(self, first: int = 40) -> None:
        self.calls = 0
        self.first = first

    def __len__(self) -> int:
        return 100

    def __iter__(self) -> Any:
        for index in range(len(self)):
            if index == self.first:
                sys.setprofile(self.profile)
            elif index == self.first + COUNTED:
                sys.setprofile(None)
            yield torch.ones(2, 4), torch.ones(2, 2)

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            self.calls += "trainkit/testing" not in frame.f_code.co_filename


class Stream:
    """Batches of which nobody knows how many there are."""

    def __init__(self, batches: Counted) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)


class Epochs(Counted):
    """Two batches an epoch, so that the calls that are counted are those of six turns of an epoch, and their steps."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Any:
        for _ in range(2):
            if self.given == 40:
                sys.setprofile(self.profile)
            elif self.given == 40 + COUNTED:
                sys.setprofile(None)
            self.given += 1
            yield torch.ones(2, 4), torch.ones(2, 2)


MOST: dict[str, tuple[type[TinyModule], dict[str, Any], int]] = {
    "bare": (Bare, {}, 113),
    "log": (Logging, {}, 158),
    "log 2": (LoggingTwo, {}, 194),
    "log 5": (LoggingFive, {}, 302),
    "clipping and a schedule": (Scheduled, {"gradient_clip_val": 1.0}, 413),
    "4 batches per update": (Bare, {"accumulate_grad_batches": 4}, 318),
    "bf16-mixed": (Bare, {"precision": "bf16-mixed"}, 137),
}
"""Of each kind of step: the module, the arguments of the Trainer, and the most calls of all steps that are counted."""


@pytest.mark.parametrize("kind", MOST)
def test_no_step_makes_more_calls_than_it_did(kind: str) -> None:
    module, arguments, most = MOST[kind]
    batches = Counted()
    quiet_trainer(max_epochs=1, **arguments).fit(module(), batches)
    require(batches, most)


def test_a_batch_of_a_stream_makes_no_more_calls_than_it_did() -> None:
    batches = Counted()
    quiet_trainer(max_epochs=1).fit(Bare(), Stream(batches))
    require(batches, 269)


@pytest.mark.parametrize(("module", "most"), [(Bare, 192), (ValidatingOnly, 108)], ids=["log", "nothing logged"])
def test_a_batch_that_is_validated_makes_no_more_calls_than_it_did(module: type[TinyModule], most: int) -> None:
    batches = Counted()
    quiet_trainer(max_epochs=1).fit(module(), TinyData(2), batches)
    require(batches, most)


def test_a_turn_of_an_epoch_makes_no_more_calls_than_it_did() -> None:
    batches = Epochs()
    quiet_trainer(max_epochs=40).fit(Bare(), batches)
    require(batches, 1559)


def test_a_usual_step_makes_no_more_calls_than_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_callback, "monotonic", lambda: 0.0)  # how often a bar is drawn goes by the clock
    batches = Counted()
    trainer = quiet_trainer(
        logger=[CSVLogger(tmp_path), TensorBoardLogger(tmp_path)],
        enable_checkpointing=True,
        enable_progress_bar=True,
        default_root_dir=tmp_path,
    )
    trainer.fit(Logging(), batches)
    require(batches, 294)


def test_a_fit_of_one_step_makes_no_more_calls_than_it_did() -> None:
    batches = Counted(first=-COUNTED - 1)
    quiet_trainer(max_steps=1).fit(Bare(), TinyData(2))  # what is worked out once in a process
    trainer, module = quiet_trainer(max_steps=1), Bare()
    sys.setprofile(batches.profile)
    trainer.fit(module, batches)
    sys.setprofile(None)
    # A few more or less from one environment to the next.
    assert 0 < batches.calls <= 2190, f"{batches.calls} calls"


def require(batches: Counted, most: int) -> None:
    """Fail if more calls were counted than ``most``."""
    assert 0 < batches.calls <= most, (
        f"{batches.calls / COUNTED:.2f} calls a step, and {most / COUNTED:.2f} were enough"
    )
