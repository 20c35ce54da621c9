"""What a rank reads and leaves; `test_ranks.py` starts whole ones."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainkit.testing.rank_process import Ended, Job, ended_of

pytestmark = pytest.mark.slow


def run(folder: Path, job: Job, deadline: float) -> tuple[int, Ended]:
    job.write(folder, deadline)
    command = [sys.executable, "-c", "from trainkit.testing.rank_process import main; main()", str(folder)]
    environment = os.environ | {"RANK": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    # A pipe that stays open, as `run_on_ranks` holds one: without it the rank ends.
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
    with process:
        code = process.wait()
    return code, ended_of(folder, 0, code)


def test_a_module_comes_from_the_file_that_it_had_where_there_is_no_such_module(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def double(number):\n    return 2 * number, __name__\n")
    call = b"(cinner.mine\ndouble\n(I21\ntt."  # (inner.mine.double, (21,))
    job = Job(call, {"inner.mine": str(tmp_path / "mine.py")})
    assert run(tmp_path, job, time.time() + 60) == (0, Ended((42, "inner.mine")))


def test_what_is_not_done_in_time_leaves_where_it_stood(tmp_path: Path) -> None:
    code, ended = run(tmp_path, Job(pickle.dumps((time.sleep, (60,))), {}), 0.0)
    assert code == 1 and ended.failure.startswith("it had not ended in time.") and "in main" in ended.failure


def test_a_call_that_cannot_be_read_is_a_failure_with_a_traceback(tmp_path: Path) -> None:
    code, ended = run(tmp_path, Job(b"cno_such_module\nname\n.", {}), time.time() + 60)
    assert code == 1 and isinstance(ended.error, ModuleNotFoundError) and ended.failure.startswith("Traceback")


def test_one_that_leaves_nothing_is_told_by_its_exit_code(tmp_path: Path) -> None:
    why = "it has ended with exit code -9, and without a result"
    assert ended_of(tmp_path, 3, -9) == Ended(failure=why, why=why)
