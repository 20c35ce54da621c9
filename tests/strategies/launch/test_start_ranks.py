"""Programs that start themselves on several ranks, and places where there is no program to start."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.strategies import launched_fit
from trainkit import Trainer
from trainkit.errors import DeviceError
from trainkit.storage.files import verify
from trainkit.strategies.launch import start_ranks

ROOT = Path(__file__).parents[3]
SCRIPT = launched_fit.__file__
LIMIT_S = 100
STARTED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def start(*command: object, cwd: Path = ROOT, **variables: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name not in STARTED}
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        text, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.terminate()  # which the ranks are told too
        text, _ = process.communicate()
        pytest.fail(f"hangs:\n{text}")
    return process.returncode, text


def begun(folder: Path) -> dict[str | None, dict[str, Any]]:
    """Return of each process, by its rank, how it was started."""
    notes = [json.loads(path.read_text()) for path in (folder / "begun").iterdir()]
    assert len({note["rank"] for note in notes}) == len(notes), "no rank has begun twice"
    return {note["rank"]: note for note in notes}


def wait_until_it_trains(folder: Path, process: subprocess.Popen[str]) -> None:
    while not (folder / "trains").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.distributed
@pytest.mark.slow
def test_a_script_starts_itself_with_the_same_command_line(tmp_path: Path):
    # From its own folder, as a relative path, and it changes the folder before it makes a Trainer.
    options = ["-W", "ignore::ImportWarning", "-X", "faulthandler"]
    arguments = [tmp_path, "devices=2", "moves=True"]
    code, text = ended(start(*options, Path(SCRIPT).name, *arguments, cwd=Path(SCRIPT).parent))

    assert code == 0, text
    notes = begun(tmp_path)
    assert sorted(notes, key=str) == ["0", "1", None]
    for note in notes.values():
        assert note == notes[None] | {"rank": note["rank"], "restart": note["restart"]}
    assert notes["0"]["argv"] == [Path(SCRIPT).name, *map(str, arguments)]
    assert notes["0"]["warns"] == ["ignore::ImportWarning"]
    assert notes["0"]["xoptions"] == ["faulthandler"]
    assert torch.load(tmp_path / "weights.pt")["world_size"] == 2
    assert text.count("starting the program anew on 2 ranks, as torchrun --nproc-per-node=2 does") == 1


@pytest.mark.distributed
@pytest.mark.slow
def test_a_module_starts_itself_and_a_strategy_object_has_ranks_too(tmp_path: Path):
    code, text = ended(start("-m", "tests.strategies.launched_fit", tmp_path, "devices=2", "strategy='ddp'"))
    assert code == 0, text
    assert sorted(begun(tmp_path), key=str) == ["0", "1", None]
    assert torch.load(tmp_path / "weights.pt")["world_size"] == 2


CONFIG = """
module: {_target_: tests.strategies.launched_fit.Net, folder: .}
data: {_target_: tests.strategies.launched_fit.Data}
trainer: {accelerator: cpu, devices: 2, max_epochs: 1, enable_progress_bar: false, enable_model_summary: false}
"""


@pytest.mark.distributed
@pytest.mark.slow
def test_the_command_line_starts_itself(tmp_path: Path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    code, text = ended(start("-m", "trainkit", "fit", "config.yaml", "trainer.max_epochs=2", cwd=tmp_path))
    assert code == 0, text
    assert "on 2 ranks" in text
    assert list(tmp_path.rglob("last.ckpt"))


@pytest.mark.distributed
@pytest.mark.slow
def test_the_exit_code_is_that_of_the_rank_that_failed(tmp_path: Path):
    code, text = ended(start(SCRIPT, tmp_path, "devices=2", "fails=7"))
    assert code == 7, text
    assert "rank 1 has ended with exit code 7" in text


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_a_signal_reaches_the_ranks_which_save_and_end(tmp_path: Path, number: signal.Signals, code: int):
    process = start(SCRIPT, tmp_path, "devices=2", "step_s=0.05", "max_epochs=1000")
    wait_until_it_trains(tmp_path, process)
    process.send_signal(number)

    found, text = ended(process)
    assert found == code, text
    saved = list(tmp_path.rglob("*.ckpt"))
    assert "last.ckpt" in {each.name for each in saved}, text
    for each in saved:
        verify(each)


# Places without a program


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in STARTED:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("arguments", [{"devices": 2}, {"devices": 2, "strategy": "ddp"}])
def test_in_a_test_an_error_says_what_to_do(alone: None, arguments: dict[str, Any]):
    with pytest.raises(DeviceError, match=r"(?s)Trainer was made in a test.*torchrun --nproc-per-node=2.*devices=1"):
        Trainer(accelerator="cpu", **arguments)


MAKES = "from trainkit import Trainer; Trainer(accelerator='cpu', devices=2)"
SHELL = f"""
import sys, types
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=object)
{MAKES}
"""
UNITTEST = f"""
import unittest

class Test(unittest.TestCase):
    def test(self):
        {MAKES}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "stdin", "place"),
    [
        (["-c", MAKES], "", "a program that is in no file"),
        ([], MAKES, "a program that is in no file"),
        (["-"], MAKES, "a program that is in no file"),
        (["-i", "script.py"], "", "an interactive session"),
        (["-m", "IPython", "--quick", "script.py"], "", "a notebook or an IPython shell"),
        (["-m", "unittest", "tests_of_mine.py"], "", "a test"),
    ],
    ids=["-c", "stdin", "-", "-i", "IPython", "unittest"],
)
def test_where_there_is_no_program_an_error_says_so(tmp_path: Path, command: list[str], stdin: str, place: str):
    (tmp_path / "script.py").write_text(MAKES)
    (tmp_path / "tests_of_mine.py").write_text(UNITTEST)
    kept = {name: value for name, value in os.environ.items() if name not in STARTED and "PYTEST" not in name}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert f"the Trainer was made in {place}" in done.stdout + done.stderr
    assert "starting the program anew" not in done.stderr


def place_in_thread() -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(start_ranks._place_without_program()))
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_and_a_child_of_multiprocessing_are_no_places_either(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PYTEST_VERSION")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setattr(sys, "argv", [SCRIPT])
    assert place_in_thread().startswith("another thread")
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    assert start_ranks._place_without_program() == "a process that multiprocessing has started"
