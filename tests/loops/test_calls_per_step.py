"""How many Python functions of trainkit are called in a step: what makes it slower shows here on any machine."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import trainkit
from trainkit.testing import TinyModule, quiet_trainer

PACKAGE = str(Path(trainkit.__file__).parent)
COUNTED = 12
"""Steps, of which each place in an accumulation group and each interval of a schedule occurs equally often."""


class Bare(TinyModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)


class Logging(TinyModule):
    names = ("loss",)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        for name in self.names:
            self.log(name, loss)
        return loss


class LoggingFive(Logging):
    names = ("a", "b", "c", "d", "e")


class Scheduled(Bare):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Counted:
    """Batches, between some of which calls are counted."""

    def __init__(self) -> None:
        self.calls = 0

    def __len__(self) -> int:
        return 100

    def __iter__(self) -> Any:
        for index in range(len(self)):
            if index == 40:
                sys.setprofile(self.profile)
            elif index == 40 + COUNTED:
                sys.setprofile(None)
            yield torch.ones(2, 4), torch.ones(2, 2)

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            self.calls += "trainkit/testing" not in frame.f_code.co_filename


MOST = {
    "bare": (Bare, {}, 113),
    "log": (Logging, {}, 159),
    "log 5": (LoggingFive, {}, 307),
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
    assert batches.calls <= most, f"{batches.calls / COUNTED:.2f} calls a step, and {most / COUNTED:.2f} were enough"
