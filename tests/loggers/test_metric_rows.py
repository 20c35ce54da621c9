from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainkit.callbacks import Callback
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class Logs(TinyModule):
    """Logs which step and which epoch it is."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("step", float(self.global_step), on_step=True, on_epoch=False)
        self.log("mean", float(batch_idx), on_step=False, on_epoch=True, batch_size=1)
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", 1.0)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test", 2.0)


def rows(module: TinyModule | None = None, batches: int = 2, **arguments: Any) -> list[tuple[int, dict[str, float]]]:
    """Train two epochs, each followed by a validation; return what loggers get."""
    recorder = Recorder(["on_log"])
    ckpt_path = arguments.pop("ckpt_path", None)
    callbacks = [recorder, *arguments.pop("callbacks", [])]
    trainer = quiet_trainer(**({"max_epochs": 2, "log_every_n_steps": 1} | arguments), callbacks=callbacks)
    trainer.fit(module or Logs(), TinyData(batches), TinyData(1), ckpt_path=ckpt_path)
    return [(call["step"], call["metrics"]) for call in recorder.arguments("on_log")]


def test_rows_of_updates_validations_and_epochs_stand_at_the_global_step() -> None:
    assert rows() == [
        (1, {"epoch": 0, "step": 0.0}),
        (2, {"epoch": 0, "step": 1.0}),
        (2, {"epoch": 0, "val": 1.0}),
        (2, {"epoch": 0, "mean": 0.5}),
        (3, {"epoch": 1, "step": 2.0}),
        (4, {"epoch": 1, "step": 3.0}),
        (4, {"epoch": 1, "val": 1.0}),
        (4, {"epoch": 1, "mean": 0.5}),
    ]


def step_rows(**arguments: Any) -> list[int]:
    return [step for step, row in rows(**arguments) if "step" in row]


def test_rows_between_are_due_by_updates_of_the_whole_run() -> None:
    assert step_rows(log_every_n_steps=3) == [3]
    assert step_rows(log_every_n_steps=1, accumulate_grad_batches=2) == [1, 2]


def test_zero_is_no_rows_between() -> None:
    assert step_rows(log_every_n_steps=0) == []


def test_a_run_that_logs_nothing_has_no_rows() -> None:
    class Silent(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss(batch)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            pass

    assert rows(Silent()) == []


def test_the_sanity_check_has_no_row() -> None:
    assert rows(num_sanity_val_steps=1) == rows()


@pytest.mark.parametrize(("entry_point", "name"), [("validate", "val"), ("test", "test")])
def test_an_evaluation_has_one_row(entry_point: str, name: str) -> None:
    recorder = Recorder(["on_log"])
    getattr(quiet_trainer(callbacks=[recorder]), entry_point)(Logs(), TinyData(2))
    [row] = recorder.arguments("on_log")
    assert (row["step"], list(row["metrics"])) == (0, ["epoch", name])


def test_what_plugins_log_at_the_end_of_an_epoch_is_in_its_row() -> None:
    class Late(Callback):
        def on_train_epoch_end(self, module: TinyModule) -> None:
            module.log("late", 3.0)

    assert rows(callbacks=[Late()], max_epochs=1)[-1] == (2, {"epoch": 0, "mean": 0.5, "late": 3.0})


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_writes_the_rows_that_are_still_to_come(tmp_path: Path, accumulate: int) -> None:
    class Save(Callback):
        def on_train_batch_end(self, trainer: Any) -> None:
            if trainer.progress.total_batches == accumulate:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    whole = rows(callbacks=[Save()], batches=4, accumulate_grad_batches=accumulate)
    resumed = rows(ckpt_path=tmp_path / "a.ckpt", batches=4, accumulate_grad_batches=accumulate)
    # The row of that step too: it was still to be written when the other plugin saved.
    assert resumed == whole
