"""Every door that takes a path, with paths that lead nowhere or to what is no file: a named error, and at once."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from trainkit import DataModule
from trainkit.callbacks import CSVLogger, ModelCheckpoint, TensorBoardLogger
from trainkit.cli.main import main
from trainkit.config import read
from trainkit.errors import TrainkitError
from trainkit.testing import TinyData, TinyModule, quiet_trainer

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="no pipes and sockets with names"),
    pytest.mark.filterwarnings("ignore"),
]

NOT_IN_ARGUMENTS = ["a\0b", "a\0b/c", "file://\0", "\ud800"]
"""Texts that are no path at all, and that no command line can hold."""

NO_FILES = [
    *("", ".", "folder", "folder/", "good.ckpt/", "good.ckpt/x", "fifo/c"),
    *("fifo", "to-fifo.ckpt", "socket", "/dev/null", "loop", "dangling", "empty", "none/none.ckpt"),
    *("x" * 300, "x" * 300 + "/c", "y/" * 3000 + "z", "~", "~/none.ckpt", "~none/x", " ", "a\nb", "\x1b[2Jx"),
    *("://", "x://y", "file://", "a::b", "*", "[x]", "{x}", "$HOME", "${oc.env:HOME}"),
]
"""None of them leads to a checkpoint; some can be written to, and all of these are in the current folder."""

ELSEWHERE = ["..", "/", "file:///none/none.ckpt"]

NO_PATHS = [b"x", 3, True, [], {}, Path("a\0b"), object()]

CONFIG = f"""
module: {{_target_: trainkit.testing.TinyModule}}
data: {{_target_: {__name__}.Data}}
trainer: {{max_epochs: 1, logger: false, enable_checkpointing: false, enable_progress_bar: false, accelerator: cpu}}
"""


class Data(DataModule):
    def train_dataloader(self) -> TinyData:
        return TinyData(2)

    test_dataloader = train_dataloader


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "good.ckpt"
    trainer = quiet_trainer(default_root_dir=path.parent)
    trainer.fit(TinyModule(), TinyData(2))
    trainer.save_checkpoint(path)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, checkpoint: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder in which there is one of each kind."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("good.ckpt").write_bytes(checkpoint)
    Path("config.yaml").write_text(CONFIG)
    Path("folder").mkdir()
    os.mkfifo("fifo")
    Path("empty").touch()
    for link, target in [("to-fifo.ckpt", "fifo"), ("loop", "loop"), ("dangling", "nowhere")]:
        os.symlink(target, link)
    with socket.socket(socket.AF_UNIX) as each:
        each.bind("socket")
        yield folder


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Who waits for a pipe would wait for ever."""

    def fail(*_: object) -> None:
        raise TimeoutError("still waiting")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, 60, 1)  # again and again: there may be several
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def command(*arguments: str) -> None:
    """Run a command as a shell does."""
    result = CliRunner().invoke(main, list(arguments))
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    if result.exit_code:
        assert result.output.strip(), "an error without a message"
        raise TrainkitError(result.output)


def fit(**arguments: Any) -> None:
    quiet_trainer(**({"default_root_dir": os.getcwd()} | arguments)).fit(TinyModule(), TinyData(2))


def from_checkpoint(stage: str) -> Callable[[Any], object]:
    def run(path: Any) -> None:
        getattr(quiet_trainer(), stage)(TinyModule(), TinyData(2), ckpt_path=path)

    return run


def save(path: Any) -> None:
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), TinyData(1))
    trainer.save_checkpoint(path)


READING: dict[str, Callable[[Any], object]] = {
    "fit": from_checkpoint("fit"),
    "validate": from_checkpoint("validate"),
    "test": from_checkpoint("test"),
    "predict": from_checkpoint("predict"),
    "load_from_checkpoint": lambda path: TinyModule.load_from_checkpoint(path),
    "hparams_file": lambda path: TinyModule.load_from_checkpoint("good.ckpt", hparams_file=path),
    "read": lambda path: read(path),
}
WRITING: dict[str, Callable[[Any], object]] = {
    "save_checkpoint": save,
    "dirpath": lambda path: fit(callbacks=[ModelCheckpoint(dirpath=path)]),
    "filename": lambda path: fit(callbacks=[ModelCheckpoint("kept", filename=path)]),
    "default_root_dir": lambda path: fit(default_root_dir=path, logger=True, enable_checkpointing=True),
    "CSVLogger": lambda path: fit(logger=CSVLogger(path)),
    "CSVLogger.name": lambda path: fit(logger=CSVLogger("logs", name=path)),
    "CSVLogger.version": lambda path: fit(logger=CSVLogger("logs", version=path)),
    "TensorBoardLogger": lambda path: fit(logger=TensorBoardLogger(path)),
}
READING_COMMANDS: dict[str, Callable[[str], object]] = {
    "show": lambda path: command("checkpoint", "show", path),
    "verify": lambda path: command("checkpoint", "verify", path),
    "diff": lambda path: command("checkpoint", "diff", path, "good.ckpt"),
    "diff with": lambda path: command("checkpoint", "diff", "good.ckpt", path),
    "convert": lambda path: command("checkpoint", "convert", "--trust", path, "out.ckpt"),
    "export": lambda path: command("checkpoint", "export", path, "out.safetensors"),
    "CONFIG": lambda path: command("fit", path),
    "ckpt_path": lambda path: command("test", "config.yaml", f"ckpt_path='{path}'"),
}
WRITING_COMMANDS: dict[str, Callable[[str], object]] = {
    "convert": lambda path: command("checkpoint", "convert", "--trust", "good.ckpt", path),
    "export": lambda path: command("checkpoint", "export", "good.ckpt", path),
    "root": lambda path: command("fit", "config.yaml", f"trainer.default_root_dir='{path}'"),
}


def outcomes(door: Callable[[Any], object], paths: list[Any], *, may_be_taken: bool) -> dict[str, str]:
    """Return what was met by each path, if it was no error of trainkit."""
    met: dict[str, str] = {}
    for path in paths:
        try:
            door(path)
        except TrainkitError as error:
            assert str(error)
        except BaseException as error:
            met[repr(path)[:40]] = f"{type(error).__name__}: {str(error)[:100]}"
        else:
            if not may_be_taken:
                met[repr(path)[:40]] = "taken"
    return met


@pytest.mark.parametrize("name", READING)
def test_no_path_to_read_from_fails_raw_or_waits(name: str) -> None:
    paths = [*NO_FILES, *ELSEWHERE, *NOT_IN_ARGUMENTS, *NO_PATHS]
    assert outcomes(READING[name], paths, may_be_taken=False) == {}


@pytest.mark.parametrize("name", READING_COMMANDS)
def test_no_path_to_read_from_fails_raw_or_waits_on_the_command_line(name: str) -> None:
    command("test", "config.yaml", "ckpt_path=good.ckpt")  # nothing else is wrong
    assert outcomes(READING_COMMANDS[name], [*NO_FILES, *ELSEWHERE], may_be_taken=False) == {}


@pytest.mark.parametrize("name", WRITING)
def test_no_path_to_write_to_fails_raw_or_waits(name: str) -> None:
    paths = [*NO_FILES, *NOT_IN_ARGUMENTS, *NO_PATHS]
    assert outcomes(WRITING[name], paths, may_be_taken=True) == {}


@pytest.mark.parametrize("name", WRITING_COMMANDS)
def test_no_path_to_write_to_fails_raw_or_waits_on_the_command_line(name: str) -> None:
    assert outcomes(WRITING_COMMANDS[name], NO_FILES, may_be_taken=True) == {}
