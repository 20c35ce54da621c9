from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from threading import Event, Timer
from typing import Any

import pytest

from trainkit.callbacks import ModelCheckpoint
from trainkit.callbacks.builtin import run_record
from trainkit.loggers.csv import CSVLogger
from trainkit.loggers.logger import Logger
from trainkit.record.repository import Repository
from trainkit.record.starts import add_start, starts_in
from trainkit.record.summary import ended, summary_in
from trainkit.testing import TinyData, TinyModule, quiet_trainer

FILES = {"run.json", "summary.json"}

PROGRAM = """
import os, signal, sys
import trainkit
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.loggers.csv import CSVLogger
from plugins import PLUGINS

class Does:
    def on_train_batch_end(self, trainer):
        if trainer.global_step == 6:
            if (wait := [plugin for _, plugin in trainer.hooks.plugins if type(plugin).__name__ == "RunRecord"]):
                wait[0]._job.finish()
            os.kill(os.getpid(), getattr(signal, DO))

DO = sys.argv[1]
trainer = quiet_trainer(
    max_epochs=3, logger=CSVLogger(), enable_checkpointing=True, callbacks=[*([Does()] if DO else []), *PLUGINS]
)
trainer.fit(TinyModule(), TinyData(4), ckpt_path=sys.argv[2] or None)
"""

PLUGINS = """
class Mine:
    def on_fit_start(self): pass
class Other:
    def on_fit_start(self): pass
PLUGINS = [Mine(), Other()]
"""


def fit(folder: Path, ckpt_path: str | None = None, **arguments: Any) -> Path:
    """Fit, and return the folder of the run."""
    defaults = {"logger": CSVLogger(), "default_root_dir": folder, "enable_checkpointing": True}
    trainer = quiet_trainer(**defaults | arguments)
    trainer.fit(TinyModule(), TinyData(4), TinyData(1), ckpt_path=ckpt_path)
    return Path(trainer.log_dir)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder with a program in it, within a repository of its own."""
    (tmp_path / "train.py").write_text(textwrap.dedent(PROGRAM))
    (tmp_path / "plugins.py").write_text(textwrap.dedent(PLUGINS))
    (tmp_path / ".gitignore").write_text("trainkit_logs\n__pycache__\n")
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "commit.gpgsign=false")
    for command in (["init"], ["add", "."], ["commit", "-m", "first"]):
        subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def run(folder: Path, do: str = "", ckpt_path: str = "", *arguments: str) -> tuple[int, str]:
    """Run the program; return its exit code and what it has told."""
    path = os.pathsep.join(filter(None, [str(Path(run_record.__file__).parents[3]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "train.py", do, ckpt_path, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_a_fit_keeps_what_it_was_made_with(tmp_path: Path) -> None:
    folder = fit(tmp_path)
    assert names(folder) >= FILES
    (start,) = starts_in(folder)
    assert start["continues"] is None
    assert start["on"] == "cpu, precision 32-true, strategy single"
    assert start["packages"]["torch"] and start["python"] and start["platform"]
    told = {part["name"]: part["target"] for part in start["parts"]}
    assert told["module"] == "trainkit.testing.tiny:TinyModule"
    assert told["CSVLogger"] == "trainkit.loggers.csv:CSVLogger"
    assert "RunRecord" not in told and "LastCheckpoint" not in told, "they are nobody's choice"


@pytest.mark.parametrize(
    "arguments",
    [
        {"logger": False},
        {"fast_dev_run": True},
        {"barebones": True, "logger": None, "enable_checkpointing": None},
        {"plugins": {"disable": ["RunRecord"]}},
    ],
)
def test_a_run_without_a_folder_of_its_own_keeps_none(tmp_path: Path, arguments: dict[str, Any]) -> None:
    if arguments.get("barebones"):
        arguments |= {"enable_progress_bar": None, "enable_model_summary": None}
    fit(tmp_path, **arguments)
    assert not [path for path in tmp_path.rglob("*.json")]


def test_a_logger_that_writes_nothing_gets_no_folder(tmp_path: Path) -> None:
    class Sends(Logger):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            pass

    fit(tmp_path, logger=Sends(), enable_checkpointing=False)
    assert not list(tmp_path.iterdir())
    assert names(fit(tmp_path, logger=Sends())) >= FILES, "where checkpoints are"


def test_an_evaluation_alone_keeps_nothing_and_one_after_a_fit_changes_nothing(tmp_path: Path) -> None:
    trainer = quiet_trainer(logger=CSVLogger(), default_root_dir=tmp_path)
    trainer.validate(TinyModule(), TinyData(1), verbose=False)
    assert not names(Path(trainer.log_dir)) & FILES
    trainer.fit(TinyModule(), TinyData(2))
    before = Path(trainer.log_dir, "summary.json").read_bytes()
    trainer.test(TinyModule(), TinyData(1), verbose=False)
    assert Path(trainer.log_dir, "summary.json").read_bytes() == before


def test_two_fits_of_a_trainer_are_two_starts(tmp_path: Path) -> None:
    class StopsOnce:
        def on_train_epoch_end(self, trainer: Any) -> None:
            trainer.should_stop = trainer.current_epoch == 0

    trainer = quiet_trainer(logger=CSVLogger(), default_root_dir=tmp_path, max_epochs=2, callbacks=[StopsOnce()])
    trainer.fit(module := TinyModule(), TinyData(2))
    trainer.fit(module, TinyData(2))
    starts = starts_in(Path(trainer.log_dir))
    assert [start["continues"] for start in starts] == [None, None]
    assert json.loads(Path(trainer.log_dir, "summary.json").read_text())["steps"] == trainer.global_step == 4


def test_a_run_that_goes_on_as_it_was_tells_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fit(tmp_path)
    assert fit(tmp_path, ckpt_path="last", max_epochs=2) == folder
    assert "has changed" not in capsys.readouterr().err
    first, second = starts_in(folder)
    assert second["continues"] == {"checkpoint": str(folder / "last.ckpt"), "epoch": 1, "step": 4}
    assert {**second, "started": 0, "continues": 0} == {**first, "started": 0, "continues": 0}


def test_a_run_that_goes_on_elsewhere_is_compared_with_where_it_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit(tmp_path, callbacks=[ModelCheckpoint(filename="mine")])
    other = fit(tmp_path / "b", ckpt_path=str(folder / "checkpoints" / "mine.ckpt"), max_epochs=2, precision="64-true")
    assert other != folder and len(starts_in(folder)) == len(starts_in(other)) == 1
    told = capsys.readouterr().err
    assert "precision is trainkit.precision.dtypes:Float64, and was trainkit.precision.dtypes:Float32" in told


def test_a_run_that_has_nothing_left_to_train_changes_nothing(tmp_path: Path) -> None:
    folder = fit(tmp_path)
    before = {name: (folder / name).read_bytes() for name in FILES}
    with pytest.warns(UserWarning, match="nothing is left to train"):
        fit(tmp_path, ckpt_path="last")
    assert {name: (folder / name).read_bytes() for name in FILES} == before


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_cannot_be_written_ends_no_run(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    monkeypatch.setattr(run_record, {"run.json": "add_start", "summary.json": "write_summary"}[name], refuse)
    with pytest.warns(UserWarning, match=f"is not all kept: OSError: .*No space left on device: '{name}'") as told:
        folder = fit(tmp_path)
    assert len(told) == 1
    assert names(folder) >= {"last.ckpt", "metrics.csv"}


def test_a_folder_that_was_removed_is_not_made_anew(tmp_path: Path) -> None:
    class Removes:
        stage = "persist"

        def teardown(self, trainer: Any) -> None:
            shutil.rmtree(trainer.log_dir)

    assert not fit(tmp_path, callbacks=[Removes()], enable_checkpointing=False).exists()


@pytest.mark.slow
def test_a_run_that_is_killed_and_goes_on_with_other_code(program: Path) -> None:
    code, told = run(program, "SIGKILL", "", "--api-key", "s3cret")
    folder = program / "trainkit_logs" / "version_0"
    assert code == -signal.SIGKILL and ended(summary_in(folder)) == "killed"
    (first,) = starts_in(folder)
    assert "train.py SIGKILL '' --api-key '(not shown)'" in first["command"]
    assert first["repository"]["patch"] is None and first["repository"]["untracked"] == []
    with open(program / "plugins.py", "a") as file:
        file.write("PLUGINS = PLUGINS[:1]\n")

    code, told = run(program, "SIGTERM", "last")
    assert "the file of Mine has changed: " in told and told.count("\n    ") == 3
    assert "Other (plugins:Other) is missing" in told
    assert "changes that are not committed: none -> changes.patch" in told
    assert code == 128 + signal.SIGTERM and ended(summary_in(folder)) == "interrupted"
    assert b"+PLUGINS = PLUGINS[:1]" in (folder / "changes.patch").read_bytes()

    code, told = run(program, "", "last")
    assert "Does (__main__:Does) is missing" in told and told.count("\n    ") == 1
    assert code == 0 and ended(summary_in(folder)) == "finished"
    assert [start["repository"]["patch"] for start in starts_in(folder)] == [None, "changes.patch", "changes.patch"]


def test_a_working_folder_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    (start,) = starts_in(fit(tmp_path, enable_checkpointing=False))
    assert start["folder"] is None


@pytest.mark.parametrize("goes_on", [False, True])
def test_that_it_runs_is_written_before_git_has_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    folder = fit(tmp_path) if goes_on else tmp_path / "trainkit_logs" / "version_0"
    asked, seen = Event(), []

    def hangs(where: Path) -> Repository | None:
        assert asked.wait(60)
        return None

    class Looks:
        stage = "persist"

        def on_train_start(self) -> None:
            seen.append((summary_in(folder).get("status"), starts_in(folder)[-1]["command"]))
            asked.set()

    monkeypatch.setattr(run_record, "repository_of", hangs)
    if goes_on:
        # It waits for git itself, to compare: who looks is a thread.
        Timer(1.0, Looks().on_train_start).start()
        fit(tmp_path, ckpt_path="last", max_epochs=2)
    else:
        fit(tmp_path, callbacks=[Looks()])
    ((status, command),) = seen
    assert status == "running" and command
    assert starts_in(folder)[-1]["parts"], "the rest is written later"
    assert len(starts_in(folder)) == 1 + goes_on


def test_who_changes_the_working_folder_divides_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Goes:
        def on_train_start(self) -> None:
            os.chdir(tmp_path / "elsewhere")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    fit(Path("runs"), callbacks=[Goes()])
    found = {path.parent for path in tmp_path.rglob("*.json")}
    assert found == {tmp_path / "runs" / "trainkit_logs" / "version_0"}
    assert ended(summary_in(*found)) == "finished"


def test_no_line_of_the_notice_is_forged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fit(tmp_path)
    add_start(folder, starts_in(folder)[-1] | {"python": "3\ntrainkit: all is well\x1b[2J"})
    fit(tmp_path, ckpt_path="last", max_epochs=2)
    told = capsys.readouterr().err
    assert r"    python 3\ntrainkit: all is well\x1b[2J -> " in told


def test_git_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (start,) = starts_in(fit(tmp_path))
    assert start["repository"] is None
