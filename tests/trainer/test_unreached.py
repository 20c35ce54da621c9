from __future__ import annotations

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from trainkit.data import TensorLoader
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Stream:
    """Batches of which nobody knows the number."""

    def __init__(self, num_batches: int) -> None:
        self.num_batches = num_batches

    def __iter__(self) -> Any:
        return iter([TinyData(1)[0]] * self.num_batches)


class Scheduled(TinyModule):
    every = ""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "every": self.every}}


def told(data: Any = None, module: TinyModule | None = None, fits: int = 1, **arguments: Any) -> str:
    """Return what is told of intervals that are never reached; by default of 10 batches of 4 samples in two epochs."""
    loader = TensorLoader(torch.rand(20, 4), torch.rand(20, 2), batch_size=4) if data is None else data
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = quiet_trainer(**{"max_epochs": 2, **arguments})
        for _ in range(fits):
            caught.clear()
            trainer.fit(module or TinyModule(), loader, TinyData(1))
    return "\n".join(text for each in caught if "never reached" in (text := str(each.message)))


def unreached(every: str, **arguments: Any) -> str:
    """Return how many of them there are, as it is told; empty if ``every`` is reached."""
    text = told(val_check_interval=every, **arguments)
    return text.partition("the run ends after ")[2].partition(":")[0] if text else ""


@pytest.mark.parametrize(("most", "unit"), [(10, "steps"), (10, "batches"), (40, "samples"), (2, "epochs")])
def test_an_interval_that_the_run_does_not_come_to_is_told_and_one_that_it_comes_to_is_not(
    most: int, unit: str
) -> None:
    assert unreached(f"{most} {unit}") == ""
    assert unreached(f"{most + 1} {unit}") == f"{most} {unit}"


def test_what_ends_a_run_earlier_counts() -> None:
    assert unreached("4 steps", max_steps=3) == "3 steps"
    assert unreached("4 batches", max_steps=3) == "3 batches"
    assert unreached("1 epochs", max_steps=3) == "0 epochs"
    assert unreached("7 steps", accumulate_grad_batches=2) == "6 steps"
    assert unreached("7 steps", callbacks=[GradientAccumulationScheduler({0: 1, 1: 5})]) == "6 steps"
    assert unreached("9 batches", callbacks=[GradientAccumulationScheduler({0: 1, 1: 5})]) == ""
    assert unreached("6 batches", limit_train_batches=2) == "4 batches"


def test_of_what_nobody_knows_nothing_is_told() -> None:
    assert unreached("1k steps", data=Stream(3)) == ""
    assert unreached("1k samples", data=TinyData(3)) == ""  # no loader that says what is in a batch
    assert unreached("1k steps", reload_dataloaders_every_n_epochs=1) == ""
    assert unreached("1k steps", fast_dev_run=True) == ""


def test_of_a_stream_it_is_told_where_the_updates_are_limited() -> None:
    assert unreached("1k batches", data=Stream(9), max_epochs=-1, max_steps=4) == "4 batches"


def test_a_second_fit_counts_on() -> None:
    assert unreached("12 steps", fits=2, max_epochs=2) == ""


def test_it_says_what_does_not_happen(tmp_path: Path) -> None:
    assert "EarlyStopping. To validate never, say limit_val_batches=0" in told(val_check_interval="1k steps")
    assert "val_check_interval=99 is" in told(val_check_interval=99, check_val_every_n_epoch=None)
    assert "check_val_every_n_epoch=3 is" in told(check_val_every_n_epoch=3)
    assert told(limit_val_batches=0, val_check_interval="1k steps") == ""
    assert "per step is in no row" in told(log_every_n_steps="1k samples", logger=True, default_root_dir=tmp_path)
    assert told(log_every_n_steps="1k samples") == ""  # nobody reads one


@pytest.mark.parametrize("when", [{"every": "1M samples"}, {"every_n_train_steps": 11}, {"every": "3 epochs"}])
def test_a_callback_that_never_saves_is_told(when: dict[str, Any], tmp_path: Path) -> None:
    text = told(callbacks=[ModelCheckpoint(tmp_path, **when)], enable_checkpointing=True, keep_last=False)
    assert text.startswith("the interval of ModelCheckpoint (")
    assert text.endswith("it saves nothing.")
    assert not list(tmp_path.glob("*.ckpt"))


def test_a_callback_that_saves_by_a_time_that_the_run_does_not_have_is_told(tmp_path: Path) -> None:
    saves = [ModelCheckpoint(tmp_path, train_time_interval=timedelta(hours=2)), ModelCheckpoint(tmp_path, every="2 h")]
    for callback in saves:
        text = told(callbacks=[callback], enable_checkpointing=True, max_time="1 h")
        assert "(7200.0 seconds) is never reached, as the run ends after 3,600 seconds" in text


def test_a_schedule_that_never_steps_is_told() -> None:
    module = Scheduled()
    module.every = "1k steps"
    assert "every='1k steps' of StepLR is never reached, as the run ends after 10 steps: it never steps." in told(
        module=module
    )
