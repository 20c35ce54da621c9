"""`run_on_ranks`: a function on several ranks, each a process of its own on this machine, without torchrun."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch's stubs lack it

from trainkit.checks import function as callable_
from trainkit.checks import number, whole
from trainkit.errors import ConfigError, RankError, note_on
from trainkit.testing.rank_process import Ended, Job, ended_of

_OF_OTHER_LAUNCHES = ("TORCHELASTIC_", "SLURM_", "OMPI_", "PMI_", "MPI_", "KUBERNETES_", "GROUP_", "ROLE_")
"""The beginnings of environment variables by which a rank would be taken for one that somebody else has started."""

_GRACE_S = 10.0
"""How long ranks may take to end when one has failed. Those of trainkit end within seconds, by themselves."""


def run_on_ranks(function: Callable[..., Any], *args: Any, ranks: int = 2, timeout_s: float = 100.0) -> list[Any]:
    """Call ``function(*args)`` on several ranks, and return what it returned on each, by rank.

    A `Trainer` that is made in it finds the other ranks, as one that torchrun has started does: with gloo, on the CPU,
    under the strategy ``ddp`` or another one that is given. Each rank is a process that imports the function anew,
    which takes some seconds. None is left when this returns or raises.

    Args:
        function: A function at the top of a module. It, its arguments and what it returns have to be picklable.
        args: Its arguments.
        ranks: How many ranks.
        timeout_s: After this many seconds all are ended, and the error shows where each stood.

    Raises:
        ConfigError: If it is no function, or ranks cannot import it: one in a notebook is in no file.
        RankError: If a rank has ended without a result, or not in time.
        Exception: What the function raised on the rank that failed first, with the traceback of each that failed.
    """
    callable_("run_on_ranks", function=function)
    whole("ranks", ranks, at_least=1, where="run_on_ranks")
    number("timeout_s", timeout_s, above=0, finite=True, where="run_on_ranks")
    job, deadline = _job(function, args), time.time() + timeout_s
    with tempfile.TemporaryDirectory(prefix="trainkit-ranks-") as folder:
        job.write(Path(folder), deadline)
        with _started(Path(folder), ranks) as processes:
            _wait(processes, deadline)
        ended = [ended_of(Path(folder), rank, each.returncode) for rank, each in enumerate(processes)]
    if any(each.failure for each in ended):
        raise _error(ended)
    return [each.result for each in ended]


def _job(function: Callable[..., Any], args: Sequence[Any]) -> Job:
    """Return the call as it is sent, and the files of the modules that it is made of."""
    buffer = io.BytesIO()
    pickler = _NotesModules(buffer)
    try:
        pickler.dump((function, args))
        files = {name: os.path.abspath(str(sys.modules[name].__file__)) for name in pickler.modules}
    except Exception as error:
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigError(
            f"run_on_ranks cannot send {name} to other processes: {error}\n"
            "    allowed      a function at the top of a module that is a file, and arguments that can be pickled\n"
            "    instead      move it into a file, out of the function it is in, and import it from there\n"
            "                 make what cannot be pickled within it"
        ) from error
    return Job(buffer.getvalue(), files)


class _NotesModules(pickle.Pickler):
    """Notes from which modules the functions and classes are that it pickles by name."""

    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer)
        self.modules: set[str] = set()

    def reducer_override(self, value: Any) -> Any:
        """Note the module, and let everything be pickled as it is. Raises for a module that ranks cannot import."""
        if isinstance(value, type | FunctionType) and value.__module__ in sys.modules:
            if _file_of(value.__module__):
                self.modules.add(value.__module__)
            elif getattr(sys.modules[value.__module__], "__spec__", None) is None:  # those built into Python have one
                raise ValueError(
                    f"{value.__qualname__} is of {value.__module__}, which is no file, as in a notebook, in an "
                    "interpreter and in code from stdin"
                )
        return NotImplemented


def _file_of(module: str) -> str | None:
    file = getattr(sys.modules[module], "__file__", None)
    # That of a program may be a pipe, or a name such as <stdin>.
    return None if module == "__main__" and not os.path.isfile(str(file)) else file


@contextmanager
def _started(folder: Path, ranks: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    # Served from here, at a port that the system has chosen: one that is only looked for may be taken by the time.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {name: value for name, value in os.environ.items() if not name.startswith(_OF_OTHER_LAUNCHES)}
    common |= {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
    }
    command = [sys.executable, "-c", "from trainkit.testing.rank_process import main; main()", str(folder)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for rank in map(str, range(ranks)):
            # Its end is the end of a rank: also where this process is killed, and can do nothing more.
            pipe = subprocess.PIPE
            own = common | {"RANK": rank, "LOCAL_RANK": rank}
            processes.append(subprocess.Popen(command, env=own, stdin=pipe, start_new_session=True))
        yield processes
    finally:
        for process in processes:
            _end(process)


def _wait(processes: list[subprocess.Popen[bytes]], deadline: float) -> None:
    """Wait until all have ended; where one has failed or the time is over, not for long any more."""
    last = deadline + _GRACE_S  # each ends itself at the deadline, and says where it stood
    while any(each.poll() is None for each in processes) and time.time() < last:
        if any(each.poll() for each in processes):
            last = min(last, time.time() + _GRACE_S)
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a rank with all processes that it has started, such as workers of loaders."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    assert process.stdin is not None, "it is a pipe"
    process.stdin.close()


def _error(ended: Sequence[Ended]) -> Exception:
    """Return what the rank raised that failed first, with notes of what came of the others."""
    failed = [(rank, each) for rank, each in enumerate(ended) if each.failure]
    rank, first = min(failed, key=lambda pair: pair[1].at)
    error = first.error or RankError(f"rank {rank} of {len(ended)} has failed, in run_on_ranks: {first.why}.")
    for rank, each in failed:
        note_on(error, f"on rank {rank} of {len(ended)}:\n{each.failure}")
    return error
