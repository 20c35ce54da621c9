"""Whether a process of this machine has ended is known, also where nobody has asked for its exit code yet."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from trainkit.strategies.launch.os_process import Process, _began, began_at_s


def test_a_process_that_lives_has_not_ended():
    assert not Process.this().has_ended()
    assert Process.this().pid == os.getpid()


def test_a_process_has_ended_before_its_exit_code_is_asked_for():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        seen = Process(Process.this().machine, process.pid, _began(process.pid))
        assert not seen.has_ended()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie from now on
        assert seen.has_ended()
    assert seen.has_ended()


def test_a_number_that_was_given_again_is_another_process():
    assert Process.this()._replace(began="1").has_ended()


def test_nothing_is_said_of_other_machines_and_of_systems_that_do_not_tell():
    assert not Process("elsewhere", 2**22 + 1, "1").has_ended()
    assert not Process.this()._replace(began="").has_ended()


def test_a_process_knows_when_it_began():
    before = time.time()
    code = "import time; from trainkit.strategies.launch.os_process import began_at_s; print(began_at_s(), time.time())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    began_s, then_s = map(float, told.split())
    # The kernel counts in hundredths.
    assert before - 0.1 <= began_s <= then_s <= time.time()
    assert began_at_s() < before
