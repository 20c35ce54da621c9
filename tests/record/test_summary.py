from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainkit.record.summary import ended, summary_in, write_running, write_summary


def test_a_run_that_is_going_on_is_running(tmp_path: Path) -> None:
    write_running(tmp_path, "now")
    assert ended(summary_in(tmp_path)) == "running"
    write_summary(tmp_path, {"status": "finished", "started": "now"})
    assert ended(summary_in(tmp_path)) == "finished"


def test_one_whose_process_is_gone_was_killed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_running(tmp_path, "now")
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["process"], found["host"]) == (os.getpid(), socket.gethostname())
    write_summary(tmp_path, found | {"process": gone.pid})
    assert ended(summary_in(tmp_path)) == "killed"
    write_summary(tmp_path, found | {"process": gone.pid, "host": "another"})
    assert ended(summary_in(tmp_path)) == "running", "of another machine nobody knows"


@pytest.mark.parametrize("process", [None, True, 0, -1, "1", 1.5, 10**30])
def test_a_process_that_is_none_is_not_asked_for(tmp_path: Path, process: Any) -> None:
    write_summary(tmp_path, {"status": "running", "started": "now", "host": socket.gethostname(), "process": process})
    assert ended(summary_in(tmp_path)) == "running"


OTHERS = [
    "",
    "{}",
    "[1]",
    '{"status": 1}',
    '{"status": ["running"], "started": "now"}',
    '{"status": "finished", "score": 3}',
]


@pytest.mark.parametrize("text", [None, *OTHERS])
def test_without_a_summary_nothing_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "summary.json").write_text(text)
    assert summary_in(tmp_path) == {} and ended({}) is None


@pytest.mark.parametrize("text", OTHERS)
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.json").write_text(text)
    write_running(tmp_path, "now")
    write_summary(tmp_path, {"status": "stopped", "started": "now"})
    assert (tmp_path / "summary.json").read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {"summary.json", "summary-v1.json"}
    assert ended(summary_in(tmp_path)) == "stopped"
