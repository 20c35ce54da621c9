"""Runs that start at once, signals that come late, folders that are linked, and loggers that are alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from trainkit.errors import CheckpointNotFoundError
from trainkit.loggers import CSVLogger, TensorBoardLogger
from trainkit.loggers.run_folder import RunFolder
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def test_runs_that_choose_a_folder_at_once_choose_different_ones(tmp_path):
    folders = [RunFolder(tmp_path, "runs", None) for _ in range(3)]
    assert {folder.version for folder in folders} == {0}  # each has looked before any was made
    for folder in folders:
        folder.claim()
    assert sorted(folder.version for folder in folders) == [0, 1, 2]
    folders[0].claim()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["version_0", "version_1", "version_2"]


@pytest.mark.slow
def test_processes_that_start_together_have_a_folder_each(tmp_path):
    code = textwrap.dedent(
        """
        import sys, trainkit
        from trainkit.testing import TinyData, TinyModule
        sys.stdin.readline()
        trainer = trainkit.Trainer(
            max_epochs=1, accelerator="cpu", default_root_dir=sys.argv[1], enable_progress_bar=False,
            enable_model_summary=False, log_every_n_steps=1)
        trainer.fit(TinyModule(), TinyData(3))
        print(trainer.log_dir)
        """
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    folders = [process.communicate()[0].split()[-1] for process in processes]
    assert len(set(folders)) == 3
    for folder in folders:
        assert len(Path(folder, "metrics.csv").read_text(encoding="utf-8").splitlines()) == 1 + 3


@pytest.mark.parametrize("hook", ["on_train_end", "on_fit_end", "teardown"])
@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_comes_when_no_batch_follows_is_not_lost(hook, number, error):
    class Sends:
        def __init__(self):
            setattr(self, hook, self.send)

        def send(self, trainer):
            os.kill(os.getpid(), number)

    trainer = quiet_trainer(callbacks=[Sends()])
    with pytest.raises(error):
        trainer.fit(TinyModule(), TinyData(2))
    assert trainer.global_step == 2


def test_that_the_last_state_could_not_be_saved_is_said(tmp_path, capsys):
    class Sends:
        def on_train_batch_end(self, batch_idx):
            os.kill(os.getpid(), signal.SIGTERM)

        def on_save_checkpoint(self):
            raise OSError(28, "No space left on device")

    trainer = quiet_trainer(callbacks=[Sends()], enable_checkpointing=True, default_root_dir=tmp_path)
    with pytest.raises(SystemExit) as caught:
        trainer.fit(TinyModule(), TinyData(2))
    assert caught.value.code == 143
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_there_is_nothing_to_evaluate_where_nothing_was_saved(tmp_path, stage):
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint below"):
        getattr(quiet_trainer(default_root_dir=tmp_path), stage)(TinyModule(), TinyData(1), ckpt_path="last")


def test_last_is_found_in_a_linked_folder(tmp_path):
    elsewhere, root = tmp_path / "other disk", tmp_path / "project"
    elsewhere.mkdir()
    root.mkdir()
    (root / "runs").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)  # and is not walked round in circles
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), TinyData(3))
    trainer.save_checkpoint(elsewhere / "deep" / "file.ckpt")
    resumed = quiet_trainer(max_epochs=2, default_root_dir=root)
    resumed.fit(TinyModule(), TinyData(3), ckpt_path="last")
    assert resumed.global_step == 6


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_each_of_two_loggers_keeps_its_own_rows_when_a_run_goes_on(tmp_path, kind):
    def loggers():
        return [kind(tmp_path, name="first"), kind(tmp_path, name="second")]

    def size(folder):
        return sum(path.stat().st_size for path in (tmp_path / folder).rglob("*") if path.suffix != ".ckpt")

    class More(TinyModule):
        """Writes more to the second logger."""

        def on_train_batch_end(self):
            self.loggers[1].log_metrics({f"extra_{index}": 1.0 for index in range(20)}, self.global_step)

    arguments = {"default_root_dir": tmp_path, "log_every_n_steps": 1, "enable_checkpointing": True}
    quiet_trainer(max_epochs=1, logger=loggers(), **arguments).fit(More(), TinyData(4))
    before = size("first"), size("second")
    resumed = quiet_trainer(max_epochs=2, logger=loggers(), **arguments)
    resumed.fit(More(), TinyData(4), ckpt_path="last")
    assert resumed.global_step == 8
    assert size("first") > before[0]
    assert size("second") > before[1]
