from __future__ import annotations

from typing import Any

import pytest

from trainkit.testing import quiet_trainer
from trainkit.testing.resume_contract import check_resume


class Shrinks:
    """Makes gradients smaller from batch to batch of a run."""

    def __init__(self) -> None:
        self.factor = 1.0

    def on_before_optimizer_step(self, module: Any) -> None:
        self.factor *= 0.9
        for parameter in module.parameters():
            parameter.grad *= self.factor


class ShrinksOn(Shrinks):
    def state_dict(self) -> dict[str, float]:
        return {"factor": self.factor}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.factor = state["factor"]


def test_a_run_that_goes_on_as_it_was_passes() -> None:
    runs = check_resume(lambda epochs: quiet_trainer(max_epochs=epochs, callbacks=[ShrinksOn()]))
    assert [trainer.global_step for trainer in runs] == [4, 8, 8]


def test_one_that_begins_anew_is_told() -> None:
    with pytest.raises(AssertionError, match="a run that is continued is not the one that was not stopped: .*weight"):
        check_resume(lambda epochs: quiet_trainer(max_epochs=epochs, callbacks=[Shrinks()]))
