"""Whether another process is there, by its number: one that runs, one that has ended, one that nobody has asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from trainkit.strategies.own_process import has_ended, this_process


def test_a_process_that_runs_has_not_ended():
    assert not has_ended(this_process())
    assert not has_ended(this_process() | {"pid": os.getppid()})


def test_one_that_was_killed_has_ended_also_before_its_parent_asks():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process = this_process() | {"pid": child.pid}
    assert not has_ended(process)
    child.kill()
    while not has_ended(process):  # a zombie, on Linux
        if sys.platform != "linux":
            child.wait()
        time.sleep(0.01)
    child.wait()
    assert has_ended(process)


def test_of_another_machine_nothing_is_known():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert has_ended(this_process() | {"pid": child.pid})
    assert not has_ended({"pid": child.pid, "machine": "another"})
