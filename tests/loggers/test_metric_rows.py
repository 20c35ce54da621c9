from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from trainkit.callbacks import Callback
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class Logs(TinyModule):
    """Logs which step and which epoch it is."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("at", float(self.global_step), on_step=True, on_epoch=False)
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
        (1, {"epoch": 0, "at": 0.0}),
        (2, {"epoch": 0, "at": 1.0}),
        (2, {"epoch": 0, "val": 1.0}),
        (2, {"epoch": 0, "mean": 0.5}),
        (3, {"epoch": 1, "at": 2.0}),
        (4, {"epoch": 1, "at": 3.0}),
        (4, {"epoch": 1, "val": 1.0}),
        (4, {"epoch": 1, "mean": 0.5}),
    ]


def step_rows(**arguments: Any) -> list[int]:
    return [step for step, row in rows(**arguments) if "at" in row]


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


class LogsBatches(TinyModule):
    """Logs the index of each batch, which weighs one more than that."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for reduction in ("mean", "sum", "min", "max"):
            self.log(reduction, float(batch_idx), reduce_fx=reduction, batch_size=batch_idx + 1)
        self.log("both", float(batch_idx), on_epoch=True, batch_size=batch_idx + 1)
        if batch_idx == 1:
            self.log("once", 7.0)
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", float(batch_idx), on_step=True)


def group_rows(**arguments: Any) -> list[tuple[int, dict[str, float]]]:
    found = rows(LogsBatches(), batches=5, **({"max_epochs": 1, "accumulate_grad_batches": 2} | arguments))
    return [(step, row) for step, row in found if "mean" in row]


def row_of(*batches: int, **more: float) -> dict[str, float]:
    mean = sum(k * (k + 1) for k in batches) / sum(k + 1 for k in batches)
    reduced = {"mean": mean, "sum": sum(batches), "min": min(batches), "max": max(batches), "both_step": mean}
    return {"epoch": 0, **reduced, **more}


def test_the_row_of_an_accumulated_update_is_that_of_its_batches() -> None:
    assert group_rows() == [(1, row_of(0, 1, once=7.0)), (2, row_of(2, 3)), (3, row_of(4))]
    # A validation between two batches of a group changes nothing in it.
    assert group_rows(val_check_interval=1) == group_rows()
    # What was logged in an earlier group is in the next row, as it was; the other groups are in none.
    assert group_rows(log_every_n_steps=2) == [(2, row_of(2, 3, once=7.0))]
    assert group_rows(accumulate_grad_batches=1)[-1] == (5, row_of(4))


def test_a_group_whose_update_was_skipped_is_no_part_of_the_next_row() -> None:
    class Skips(Callback):
        def around_optimizer_step(self, trainer: Any) -> Generator[None, bool, bool]:
            yield
            return trainer.progress.batch > 1  # not that of the first group

    # As a gradient scaler does whose gradients overflowed.
    assert group_rows(callbacks=[Skips()]) == [(1, row_of(2, 3, once=7.0)), (2, row_of(4))]


def test_a_group_that_the_end_of_an_epoch_cuts_short_has_a_row_and_is_no_part_of_the_next_one() -> None:
    class Leaves(Callback):
        def on_train_batch_start(self, trainer: Any, batch_idx: int) -> int | None:
            return -1 if trainer.current_epoch == 0 and batch_idx == 1 else None

    found = group_rows(callbacks=[Leaves()], max_epochs=2)
    assert found[:2] == [(1, row_of(0)), (2, {**row_of(0, 1, once=7.0), "epoch": 1})]


@pytest.mark.parametrize("module", [Logs, LogsBatches])
@pytest.mark.parametrize(("accumulate", "save_at"), [(1, 1), (2, 1), (2, 2), (2, 3), (3, 2)])
def test_a_resumed_run_writes_the_rows_that_are_still_to_come(
    tmp_path: Path, module: type[TinyModule], accumulate: int, save_at: int
) -> None:
    class Save(Callback):
        def on_train_batch_end(self, trainer: Any) -> None:
            if trainer.progress.total_batches == save_at:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    whole = rows(module(), callbacks=[Save()], batches=4, accumulate_grad_batches=accumulate)
    resumed = rows(module(), ckpt_path=tmp_path / "a.ckpt", batches=4, accumulate_grad_batches=accumulate)
    # The row of that step too: it was still to be written when the other plugin saved.
    assert resumed == [row for row in whole if row[0] > (save_at - 1) // accumulate]
