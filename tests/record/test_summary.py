from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainkit.record.summary import NAME, ended, write_running, write_summary


def test_a_run_that_is_going_on_is_running(tmp_path: Path) -> None:
    write_running(tmp_path, "now")
    assert ended(tmp_path) == "running"
    write_summary(tmp_path, {"status": "finished"})
    assert ended(tmp_path) == "finished"


def test_one_whose_process_is_gone_was_killed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_running(tmp_path, "now")
    found = json.loads((tmp_path / NAME).read_text())
    assert (found["process"], found["host"]) == (os.getpid(), socket.gethostname())
    write_summary(tmp_path, found | {"process": gone.pid})
    assert ended(tmp_path) == "killed"
    write_summary(tmp_path, found | {"process": gone.pid, "host": "another"})
    assert ended(tmp_path) == "running", "of another machine nobody knows"


@pytest.mark.parametrize("process", [None, True, 0, -1, "1", 1.5, 10**30])
def test_a_process_that_is_none_is_not_asked_for(tmp_path: Path, process: Any) -> None:
    write_summary(tmp_path, {"status": "running", "host": socket.gethostname(), "process": process})
    assert ended(tmp_path) == "running"


@pytest.mark.parametrize("text", [None, "", "{}", '{"status": 1}'])
def test_without_a_summary_nothing_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / NAME).write_text(text)
    assert ended(tmp_path) is None
