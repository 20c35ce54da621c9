from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from trainkit.callbacks import Callback, ModelCheckpoint
from trainkit.callbacks.model_checkpoint import writer as writer_file
from trainkit.errors import CheckpointWriteError, ConfigError, MetricError, UnknownNameError
from trainkit.storage.claim import LOCK
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class Scores(TinyModule):
    """Logs one of the given scores in every validation."""

    def __init__(self, *scores: float) -> None:
        super().__init__()
        self.scores: Iterator[float] = iter(scores)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.log("val/score", next(self.scores))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def fit(checkpoint: ModelCheckpoint, module: TinyModule | None = None, batches: int = 4, **arguments: Any) -> Any:
    """Train two epochs of four batches, each followed by a validation."""
    callbacks = [checkpoint, *arguments.pop("callbacks", [])]
    ckpt_path = arguments.pop("ckpt_path", None)
    val = TinyData(1) if arguments.pop("val", True) else None
    # Without the newest state of the run, which has save points of its own.
    defaults = {"max_epochs": 2, "enable_checkpointing": True, "keep_last": False}
    trainer = quiet_trainer(**(defaults | arguments), callbacks=callbacks)
    trainer.fit(module or TinyModule(), TinyData(batches), val, ckpt_path=ckpt_path)
    return trainer


def saves(recorder: Recorder) -> list[Any]:
    return recorder.seen("on_save_checkpoint")


def steps_and_hooks() -> Recorder:
    """Notes at which step something is saved, and between which hooks."""
    return Recorder(
        ["on_train_batch_end", "on_validation_end", "on_train_epoch_end", "on_save_checkpoint"],
        look=lambda trainer, module: trainer.global_step,
        stage="observe",
    )


def hook_before_each_save(recorder: Recorder) -> list[tuple[str, int]]:
    calls = recorder.calls
    return [(before.hook, save.seen) for before, save in itertools.pairwise(calls) if save.hook == "on_save_checkpoint"]


# Save points


@pytest.mark.parametrize(
    ("arguments", "trainer_arguments", "expected"),
    [
        ({}, {}, [("on_train_epoch_end", 4), ("on_train_epoch_end", 8)]),
        (
            {},
            {"val_check_interval": 2},
            [("on_validation_end", 2), ("on_train_epoch_end", 4), ("on_validation_end", 6), ("on_train_epoch_end", 8)],
        ),
        (
            {},
            {"val_check_interval": 3, "max_epochs": 1},
            [("on_validation_end", 3)],
        ),
        ({}, {"check_val_every_n_epoch": 2}, [("on_train_epoch_end", 4), ("on_train_epoch_end", 8)]),
        ({}, {"val": False}, [("on_train_epoch_end", 4), ("on_train_epoch_end", 8)]),
        ({"every_n_epochs": 2}, {}, [("on_train_epoch_end", 8)]),
        (
            {"save_on_train_epoch_end": False},
            {"val_check_interval": 2, "max_epochs": 1},
            [("on_validation_end", 2), ("on_validation_end", 4)],
        ),
        ({"save_on_train_epoch_end": True}, {"val_check_interval": 2, "max_epochs": 1}, [("on_train_epoch_end", 4)]),
        ({"save_on_train_epoch_end": False}, {"val": False}, []),
        ({}, {"max_steps": 3}, [("on_train_epoch_end", 3)]),
        ({"every_n_train_steps": 3}, {}, [("on_train_batch_end", 3), ("on_train_batch_end", 6)]),
        # What falls due right before a validation, or with an epoch's last batch, waits until that is done.
        (
            {"every_n_train_steps": 2},
            {"val_check_interval": 2, "max_epochs": 1},
            [("on_validation_end", 2), ("on_train_epoch_end", 4)],
        ),
        ({"every_n_train_steps": 4}, {"val": False}, [("on_train_epoch_end", 4), ("on_train_epoch_end", 8)]),
        (
            {"train_time_interval": timedelta(microseconds=1)},
            {"max_epochs": 1},
            [*(("on_train_batch_end", step) for step in (1, 2, 3)), ("on_train_epoch_end", 4)],
        ),
        ({"train_time_interval": timedelta(days=1)}, {}, []),
        # Within an accumulation group nothing is saved.
        (
            {"every_n_train_steps": 1},
            {"accumulate_grad_batches": 3, "max_epochs": 1},
            [("on_train_batch_end", 1), ("on_train_epoch_end", 2)],
        ),
        (
            {},
            {"accumulate_grad_batches": 2, "val_check_interval": 3, "max_epochs": 1, "batches": 6},
            [("on_train_batch_end", 2), ("on_train_epoch_end", 3)],
        ),
    ],
)
def test_when_it_saves(
    tmp_path: Path, arguments: dict[str, Any], trainer_arguments: dict[str, Any], expected: list[tuple[str, int]]
) -> None:
    recorder = steps_and_hooks()
    checkpoint = ModelCheckpoint(tmp_path, save_top_k=-1, **arguments)
    fit(checkpoint, callbacks=[recorder], **trainer_arguments)
    assert hook_before_each_save(recorder) == expected
    assert len(names(tmp_path)) == len(expected)


def test_an_epoch_cut_short_by_a_plugin_is_saved(tmp_path: Path) -> None:
    class Skip(Callback):
        def on_train_batch_start(self, batch_idx: int) -> int | None:
            return -1 if batch_idx == 3 else None

    fit(ModelCheckpoint(tmp_path), callbacks=[Skip()], max_epochs=1, accumulate_grad_batches=2)
    assert names(tmp_path) == ["epoch=0-step=2.ckpt"]


def test_an_update_that_closes_a_group_early_counts_too(tmp_path: Path) -> None:
    class Skip(Callback):
        def on_train_batch_start(self, batch_idx: int) -> int | None:
            return -1 if batch_idx == 3 else None

    checkpoint = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1)
    fit(checkpoint, callbacks=[Skip()], max_epochs=1, accumulate_grad_batches=2)
    assert names(tmp_path) == ["epoch=0-step=1.ckpt", "epoch=0-step=2.ckpt"]


@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_nothing_is_saved_before_the_first_update(tmp_path: Path) -> None:
    class Idle(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            return None

    fit(ModelCheckpoint(tmp_path, save_last=True), Idle())
    assert names(tmp_path) == []


def test_fast_dev_run_and_the_sanity_check_save_nothing(tmp_path: Path) -> None:
    recorder = Recorder(["on_save_checkpoint"])
    fit(ModelCheckpoint(tmp_path, save_last=True), callbacks=[recorder], fast_dev_run=True)
    fit(ModelCheckpoint(tmp_path), callbacks=[Recorder()], max_epochs=0, num_sanity_val_steps=2)
    assert saves(recorder) == []
    assert names(tmp_path) == []


def test_a_save_that_was_due_when_a_run_ended_is_made_by_the_run_that_goes_on(tmp_path: Path) -> None:
    class SaveByHand(Callback):
        def on_validation_batch_end(self, trainer: Any) -> None:
            if trainer.global_step == 2:
                trainer.save_checkpoint(tmp_path / "by hand.ckpt")

    def files_of(folder: str, *callbacks: Callback, **arguments: Any) -> list[str]:
        checkpoint = ModelCheckpoint(tmp_path / folder, every_n_train_steps=2, save_top_k=-1)
        fit(checkpoint, callbacks=[*callbacks], val_check_interval=2, max_epochs=1, **arguments)
        return names(tmp_path / folder)

    # Two updates are followed by a validation, at the end of which the save is due.
    whole = files_of("whole", SaveByHand())
    assert whole == ["epoch=0-step=2.ckpt", "epoch=0-step=4.ckpt"]
    assert files_of("resumed", ckpt_path=tmp_path / "by hand.ckpt") == whole


def test_evaluation_saves_nothing(tmp_path: Path) -> None:
    trainer = fit(ModelCheckpoint(tmp_path))
    before = names(tmp_path)
    trainer.validate(TinyModule(), TinyData(1))
    assert names(tmp_path) == before


# Which files


def test_the_new_file_is_there_before_the_old_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[list[str]] = []
    remove = writer_file.remove_checkpoint

    def remove_and_note(path: str) -> None:
        there.append([name for name in names(tmp_path) if name != LOCK])
        remove(path)

    monkeypatch.setattr(writer_file, "remove_checkpoint", remove_and_note)
    fit(ModelCheckpoint(tmp_path))
    assert there == [["epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt"]]
    assert names(tmp_path) == ["epoch=1-step=8.ckpt"]


def test_a_file_of_one_name_is_replaced_by_the_better_one(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, "best", "val/score")
    fit(checkpoint, Scores(2.0, 1.0, 3.0), max_epochs=3)
    assert names(tmp_path) == ["best.ckpt"]
    assert read_checkpoint(checkpoint.best_model_path)["global_step"] == 8


def test_without_version_counter_names_are_overwritten(tmp_path: Path) -> None:
    fit(ModelCheckpoint(tmp_path, "model", save_top_k=-1, enable_version_counter=False))
    assert names(tmp_path) == ["model.ckpt"]
    assert read_checkpoint(tmp_path / "model.ckpt")["global_step"] == 8


def test_last_is_written_at_every_save_point_and_is_the_same_file_as_the_newest(tmp_path: Path) -> None:
    recorder = Recorder(["on_save_checkpoint"], look=lambda trainer, module: trainer.global_step)
    checkpoint = ModelCheckpoint(tmp_path, monitor="val/score", save_last=True)
    fit(checkpoint, Scores(2.0, 1.0), callbacks=[recorder])
    assert saves(recorder) == [4, 8]
    best, last = Path(checkpoint.best_model_path), Path(checkpoint.last_model_path)
    assert names(tmp_path) == [best.name, "last.ckpt"]
    assert not last.is_symlink()
    assert best.read_bytes() == last.read_bytes()


def test_last_is_newer_than_a_best_that_was_not_beaten(tmp_path: Path) -> None:
    fit(ModelCheckpoint(tmp_path, monitor="val/score", save_last=True), Scores(1.0, 2.0))
    assert names(tmp_path) == ["epoch=0-step=4.ckpt", "last.ckpt"]
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 8


def test_last_may_be_a_link_to_the_newest_file(tmp_path: Path) -> None:
    fit(
        ModelCheckpoint(tmp_path, monitor="val/score", save_last="link", save_top_k=2),
        Scores(3.0, 1.0, 2.0, 4.0),
        max_epochs=4,
    )
    assert names(tmp_path) == ["epoch=1-step=8.ckpt", "epoch=2-step=12.ckpt", "last.ckpt"]
    assert os.readlink(tmp_path / "last.ckpt") == "epoch=2-step=12.ckpt"


def test_a_link_needs_a_file_so_without_any_it_is_one(tmp_path: Path) -> None:
    fit(ModelCheckpoint(tmp_path, save_last="link", save_top_k=0))
    assert names(tmp_path) == ["last.ckpt"]
    assert not (tmp_path / "last.ckpt").is_symlink()


def test_the_name_of_last_is_a_template_too(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, save_top_k=0, save_last=True)
    checkpoint.CHECKPOINT_NAME_LAST = "{epoch}-last"
    fit(checkpoint)
    assert names(tmp_path) == ["epoch=1-last.ckpt"]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    fit(ModelCheckpoint(tmp_path, save_last=True))
    fit(ModelCheckpoint(tmp_path, save_last=True))
    assert names(tmp_path) == ["epoch=1-step=8-v1.ckpt", "epoch=1-step=8.ckpt", "last-v1.ckpt", "last.ckpt"]


def test_a_file_that_cannot_be_deleted_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, fails = writer_file.remove_checkpoint, 2

    def refuse_twice(path: str) -> None:
        nonlocal fails
        if path.endswith("epoch=0-step=4.ckpt") and fails:
            fails -= 1
            raise OSError(errno.EBUSY, "Device or resource busy", path)
        remove(path)

    monkeypatch.setattr(writer_file, "remove_checkpoint", refuse_twice)
    with pytest.warns(UserWarning, match=r"epoch=0-step=4\.ckpt could not be deleted") as warned:
        fit(ModelCheckpoint(tmp_path), max_epochs=4)
    assert len(warned) == 1
    assert names(tmp_path) == ["epoch=3-step=16.ckpt"]


def test_a_failed_write_ends_the_fit_and_leaves_the_ranking_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fill(Callback):
        def on_save_checkpoint(self, trainer: Any) -> None:
            if trainer.global_step == 8:
                monkeypatch.setattr(os, "fsync", full)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoint = ModelCheckpoint(tmp_path, monitor="val/score", save_last=True)
    with pytest.raises(CheckpointWriteError, match=r"epoch=1-step=8\.ckpt.*\(ENOSPC\)"):
        fit(checkpoint, Scores(2.0, 1.0), callbacks=[Fill()])
    assert names(tmp_path) == ["epoch=0-step=4.ckpt", "last.ckpt"]
    assert checkpoint.best_model_path == str(tmp_path / "epoch=0-step=4.ckpt")
    assert list(checkpoint.best_k_models) == [checkpoint.best_model_path]


# Folders


def test_default_folder_is_below_the_root(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint()
    fit(checkpoint, default_root_dir=tmp_path)
    assert checkpoint.dirpath == str(tmp_path / "checkpoints")
    assert names(tmp_path / "checkpoints") == ["epoch=1-step=8.ckpt"]


def test_an_unwritable_folder_is_found_when_the_fit_starts(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    recorder = Recorder(["on_train_start"])
    with pytest.raises(CheckpointWriteError, match=r"taken.*ENOTDIR"):
        fit(ModelCheckpoint(tmp_path / "taken" / "checkpoints"), callbacks=[recorder])
    assert recorder.calls == []


@pytest.mark.parametrize("arguments", [{"save_top_k": 1}, {"save_top_k": 0, "save_last": True}], ids=str)
def test_who_saves_nothing_needs_no_folder(tmp_path: Path, arguments: dict[str, Any]) -> None:
    (tmp_path / "taken").touch()
    folder = tmp_path / "taken" / "checkpoints"
    fit(ModelCheckpoint(folder, **arguments), fast_dev_run=True)
    fit(ModelCheckpoint(folder, save_top_k=0))


def test_home_is_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ModelCheckpoint("~/runs").dirpath == str(tmp_path / "runs")


def test_a_folder_at_a_url_without_a_file_system_is_found_when_the_fit_starts() -> None:
    recorder = Recorder(["on_train_start"])
    with pytest.raises(CheckpointWriteError, match=r"nowhere://bucket cannot be written to: Protocol not known"):
        fit(ModelCheckpoint("nowhere://bucket"), callbacks=[recorder])
    assert recorder.calls == []


# The monitor


def test_scores_are_tensors_as_they_were_logged(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, monitor="val/score", save_top_k=2, mode="max")
    fit(checkpoint, Scores(0.1, 0.3, 0.2), max_epochs=3)
    assert checkpoint.best_model_score == 0.3
    assert checkpoint.current_score == 0.2
    assert [score.item() for score in checkpoint.best_k_models.values()] == pytest.approx([0.3, 0.2])
    assert checkpoint.kth_best_model_path == str(tmp_path / "epoch=2-step=12.ckpt")


def test_a_typo_in_the_monitor_is_an_error_at_the_end_of_the_first_epoch(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="did you mean 'val/score'"):
        fit(ModelCheckpoint(tmp_path, monitor="val/scor"), Scores(1.0))


def test_a_typo_is_found_without_validation_too(tmp_path: Path) -> None:
    message = "did you mean 'train/loss'"
    with pytest.warns(UserWarning, match=message), pytest.raises(MetricError, match=message):
        fit(ModelCheckpoint(tmp_path, monitor="trian/loss"), val=False)


def test_a_metric_of_a_validation_still_to_come_is_waited_for(tmp_path: Path) -> None:
    fit(ModelCheckpoint(tmp_path, monitor="val/score"), Scores(1.0), check_val_every_n_epoch=2)
    assert names(tmp_path) == ["epoch=1-step=8.ckpt"]


def test_an_epoch_without_validation_is_not_ranked_by_the_score_of_an_older_state(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, monitor="val/score", save_top_k=3)
    fit(checkpoint, Scores(2.0, 1.0), check_val_every_n_epoch=2, max_epochs=5)
    assert names(tmp_path) == ["epoch=1-step=8.ckpt", "epoch=3-step=16.ckpt"]


def test_in_mid_epoch_a_metric_that_is_not_there_yet_is_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"no metric 'val/score' has been logged.*\n.*\n.*\nUntil it is") as warned:
        fit(ModelCheckpoint(tmp_path, monitor="val/score", every_n_train_steps=1, save_top_k=-1), Scores(1.0, 2.0))
    assert len(warned) == 1
    # The steps between two validations have no value of their own.
    assert names(tmp_path) == ["epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt"]


def test_a_run_that_ends_with_nothing_ranked_says_so(tmp_path: Path) -> None:
    warned = pytest.warns(UserWarning, match="no metric 'val/score' has been logged")
    with pytest.warns(UserWarning, match="check_val_every_n_epoch=3 is never reached"), warned:
        fit(ModelCheckpoint(tmp_path, monitor="val/score"), Scores(), check_val_every_n_epoch=3)
    assert names(tmp_path) == []


def test_step_and_epoch_can_be_monitored(tmp_path: Path) -> None:
    fit(ModelCheckpoint(tmp_path, monitor="step", mode="max", save_top_k=2), max_epochs=3)
    assert names(tmp_path) == ["epoch=1-step=8.ckpt", "epoch=2-step=12.ckpt"]


# Resuming


def test_the_memory_in_a_checkpoint_counts_that_checkpoint(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, monitor="val/score", save_last=True)
    fit(checkpoint, Scores(2.0, 1.0))
    memory = read_checkpoint(checkpoint.best_model_path)["callbacks"][checkpoint.state_key]
    assert memory == checkpoint.state_dict() | {"obsolete": [str(tmp_path / "epoch=0-step=4.ckpt")]}
    assert memory["best_model_path"] == str(tmp_path / "epoch=1-step=8.ckpt")
    assert memory["last_model_path"] == str(tmp_path / "last.ckpt")


def test_a_resumed_run_goes_on_with_the_ranking_and_with_last(tmp_path: Path) -> None:
    def make() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path, monitor="val/score", save_top_k=2, save_last=True)

    fit(make(), Scores(3.0, 1.0))
    resumed = make()
    fit(resumed, Scores(2.0), max_epochs=3, ckpt_path=tmp_path / "last.ckpt")
    assert names(tmp_path) == ["epoch=1-step=8.ckpt", "epoch=2-step=12.ckpt", "last.ckpt"]
    assert resumed.best_model_path == str(tmp_path / "epoch=1-step=8.ckpt")
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 12


def test_what_a_run_was_started_from_is_never_deleted(tmp_path: Path) -> None:
    fit(ModelCheckpoint(tmp_path))
    start = tmp_path / "epoch=1-step=8.ckpt"
    fit(ModelCheckpoint(tmp_path), max_epochs=4, ckpt_path=start)
    assert names(tmp_path) == [start.name, "epoch=3-step=16.ckpt"]


def test_files_in_the_folder_of_an_earlier_run_are_left_there(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fit(ModelCheckpoint(old, save_last=True))
    before = names(old)
    fit(ModelCheckpoint(new, save_last=True), max_epochs=3, ckpt_path=old / "last.ckpt")
    assert names(old) == before
    assert names(new) == ["epoch=2-step=12.ckpt", "last.ckpt"]


def test_nothing_is_saved_again_at_the_step_a_run_was_resumed_at(tmp_path: Path) -> None:
    fit(ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1), max_steps=3, val=False)
    recorder = Recorder(["on_save_checkpoint"], look=lambda trainer, module: trainer.global_step)
    resumed = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)
    fit(resumed, callbacks=[recorder], val=False, max_steps=6, ckpt_path=tmp_path / "epoch=0-step=3.ckpt")
    assert saves(recorder) == [6]


@pytest.mark.parametrize("save_top_k", [1, -1])
@pytest.mark.parametrize("save_weights_only", [True, False])
def test_a_run_that_comes_by_again_writes_the_files_of_the_first_time(
    tmp_path: Path, save_top_k: int, save_weights_only: bool
) -> None:
    class KeepsEarly(Callback):
        """Copies the newest state, as if the run had been killed then, and some files been written behind it."""

        def on_train_batch_end(self, trainer: Any) -> None:
            if trainer.global_step == 6:
                (tmp_path / "early").write_bytes((tmp_path / "checkpoints" / "last.ckpt").read_bytes())

    def run(**arguments: Any) -> list[str]:
        saves = ModelCheckpoint(
            tmp_path / "files", every_n_train_steps=2, save_top_k=save_top_k, save_weights_only=save_weights_only
        )
        fit(saves, default_root_dir=tmp_path, keep_last=True, **arguments)
        return names(tmp_path / "files")

    written = run(callbacks=[KeepsEarly()])
    last = (tmp_path / "early").rename(tmp_path / "checkpoints" / "last.ckpt")
    assert run(ckpt_path=last) == written


def test_a_file_from_elsewhere_deletes_nothing_whatever_it_says(tmp_path: Path) -> None:
    saved = ModelCheckpoint(tmp_path / "files", save_top_k=-1)
    trainer = fit(saved, default_root_dir=tmp_path, keep_last=True)
    kept = names(tmp_path / "files")
    forged = trainer.dump_checkpoint()
    (state,) = (each for key, each in forged["callbacks"].items() if key.startswith("ModelCheckpoint"))
    state |= {"obsolete": sorted(map(str, (tmp_path / "files").iterdir())), "best_model_path": "", "best_k_models": {}}
    write_checkpoint(forged, tmp_path / "elsewhere" / "a.ckpt")
    fit(
        ModelCheckpoint(tmp_path / "files", save_top_k=-1),
        default_root_dir=tmp_path,
        keep_last=True,
        max_epochs=3,
        ckpt_path=tmp_path / "elsewhere" / "a.ckpt",
    )
    assert set(names(tmp_path / "files")) > set(kept)


def test_a_run_that_goes_on_deletes_what_it_displaces_in_folders_of_its_template(tmp_path: Path) -> None:
    def run(**arguments: Any) -> list[str]:
        saved = ModelCheckpoint(
            tmp_path / "files", filename="e{epoch}/x{step}", monitor="step", mode="max", save_top_k=2
        )
        fit(saved, default_root_dir=tmp_path, keep_last=True, **arguments)
        return sorted(path.name for path in (tmp_path / "files").rglob("*.ckpt"))

    assert len(run(max_epochs=3)) == 2
    assert run(max_epochs=5, ckpt_path="last") == ["xstep=16.ckpt", "xstep=20.ckpt"]


# Talking


def test_verbose_says_what_is_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(ModelCheckpoint(tmp_path, monitor="val/score", verbose=True), Scores(2.0, 3.0))
    said = [line for line in capsys.readouterr().out.splitlines() if "ModelCheckpoint" in line]
    assert said == [f"ModelCheckpoint: epoch 0, step 4, val/score = 2: saved {tmp_path}/epoch=0-step=4.ckpt"]


# Arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mode": "mni", "monitor": "a"}, UnknownNameError, "did you mean 'min'"),
        ({"monitor": ""}, ConfigError, "monitor=''"),
        ({"filename": "{epoch"}, ConfigError, r"filename='\{epoch'"),
        ({"save_last": "yes"}, ConfigError, "save_last='yes' must be True, False or 'link'"),
        ({"save_top_k": 2}, ConfigError, "needs a monitor"),
        ({"every_n_epochs": -1}, ConfigError, "every_n_epochs=-1"),
        ({"every_n_epochs": 1, "every_n_train_steps": 1}, ConfigError, "exclude each other"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ModelCheckpoint(**arguments)


def test_callbacks_of_different_purpose_have_different_keys() -> None:
    one, other = ModelCheckpoint(monitor="val/loss"), ModelCheckpoint(monitor="val/loss", every_n_train_steps=10)
    assert one.state_key != other.state_key


@pytest.mark.parametrize("save_last", [True, "link"])
def test_below_a_root_at_a_url_a_run_finds_what_it_has_saved(tmp_path, monkeypatch, save_last):
    monkeypatch.chdir(tmp_path)
    root = f"memory://{tmp_path.name}"
    for epochs, path in ((1, None), (2, "last")):
        callback = ModelCheckpoint(save_last=save_last)
        trainer = quiet_trainer(
            max_epochs=epochs, default_root_dir=root, callbacks=[callback], enable_checkpointing=True, logger=False
        )
        trainer.fit(TinyModule(), TinyData(2), ckpt_path=path)
    assert trainer.global_step == 4
    assert callback.best_model_path == f"{root}/checkpoints/epoch=1-step=4.ckpt"
    assert list(tmp_path.iterdir()) == []
