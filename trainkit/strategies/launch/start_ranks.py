"""Starting a program on several ranks: torch's own launcher, on the command line with which the program was started."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from contextlib import chdir
from typing import Any, Never

from trainkit.errors import DeviceError
from trainkit.output import say
from trainkit.start_folder import START_FOLDER

SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
"""What is passed on to the ranks: torchrun's own choice, and what SLURM may be told to send ahead of an end."""


def start_ranks(number: int) -> Never:
    """Start the program anew on ``number`` ranks of this machine, wait until all have ended, and end like them.

    It is what ``torchrun --standalone --nproc-per-node=NUMBER`` does, within this process. Each rank is the whole
    program, from its beginning: the same interpreter with its options, the same arguments, the same folder.

    Raises:
        DeviceError: If there is no program to start anew, as in a notebook.
        SystemExit: Always. With 0, with the code of the first rank that failed, or with 128 and the number of the
            signal that has ended them.
    """
    place = _place_without_program()
    if place:
        raise DeviceError(
            f"devices={number} starts the program anew in {number} processes, and here is none to start: the Trainer "
            f"was made in {place}.\n"
            f"    to do        put the code into a file, and run it: python script.py, or torchrun "
            f"--nproc-per-node={number} script.py\n"
            "    or say       devices=1"
        )
    say(f"trainkit: starting the program anew on {number} ranks, as torchrun --nproc-per-node={number} does.", err=True)
    with chdir(START_FOLDER or os.getcwd()):
        sys.exit(_exit_code(number))


def _exit_code(number: int) -> int:
    """Run the ranks, and return the exit code of the program."""
    # Here, as most programs have no use for it.
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # torch kills ranks that are not done so many seconds after a signal, by default 30, which not every save is. Those
    # that wait for nobody end by themselves (`RankWatch`).
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "300")
    # At a loopback address: the name of a machine alone in its network may lead nowhere.
    here = ["--standalone", "--nnodes=1", "--local-addr=localhost"]
    options = [*here, f"--nproc-per-node={number}", f"--signals-to-handle={SIGNALS}"]
    try:
        # `orig_argv` has what Python itself was given too, such as -m and -W, and nothing that the program has changed.
        arguments = [*options, "--no-python", sys.executable, *sys.orig_argv[1:]]
        torchrun.run(torchrun.parse_args(arguments))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except SignalException as stop:
        return 128 + stop.sigval
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        say(f"trainkit: rank {rank} has ended with exit code {failure.exitcode}, and so have all.", err=True)
        # A process that a signal has ended has a negative one, and 128 more than the number in a shell.
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    return 0


def _place_without_program() -> str:
    """Return where the Trainer was made, if starting the program anew would not lead there; empty if it would."""
    main: Any = sys.modules["__main__"]
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    name = getattr(getattr(main, "__spec__", None), "name", "")
    if shell is not None:
        return "a notebook or an IPython shell"
    if hasattr(sys, "ps1") or sys.flags.interactive:
        return "an interactive session"
    if multiprocessing.parent_process() is not None:
        return "a process that multiprocessing has started"
    if _is_worker_of_ray():
        return "a worker of Ray"
    # Both: a program that a test has started inherits the variable, and one that imports pytest need not run in it.
    is_pytest = "_pytest" in sys.modules and not {"PYTEST_VERSION", "PYTEST_CURRENT_TEST"}.isdisjoint(os.environ)
    if is_pytest or name.startswith("unittest."):
        return "a test"
    if threading.current_thread() is not threading.main_thread():
        return "another thread than the main one, which alone hears of signals"
    if not sys.executable or getattr(main, "__file__", "<").startswith("<"):
        return "a program that is in no file (python -c, or stdin)"
    return ""


def _is_worker_of_ray() -> bool:
    ray: Any = sys.modules.get("ray")
    return bool(ray and ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE)
