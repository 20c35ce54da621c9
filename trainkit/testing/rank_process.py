"""The process of one rank of `run_on_ranks`: it reads a job from a folder, and leaves there what came of it."""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import math
import os
import pickle
import sys
import threading
import time
import traceback
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

_JOB = "job.pickle"


class Job(NamedTuple):
    """A call, as it is sent to ranks.

    Attributes:
        call: The function and its arguments, pickled.
        files: The files of the modules that have to be there before it can be read.
    """

    call: bytes
    files: dict[str, str]

    def write(self, folder: Path, deadline: float) -> None:
        """Leave it for the ranks, which end at ``deadline``, in seconds since the epoch."""
        (folder / _JOB).write_bytes(pickle.dumps((deadline, *self)))


class Ended(NamedTuple):
    """What came of a rank.

    Attributes:
        result: What the function returned.
        failure: Why it did not: a traceback, or a sentence; empty where it did.
        error: What it raised, if that can be pickled.
        at: When that was.
        why: The failure in one line.
    """

    result: Any = None
    failure: str = ""
    error: Exception | None = None
    at: float = math.inf
    why: str = ""


def ended_of(folder: Path, rank: int, exit_code: int) -> Ended:
    """Return what a rank has left in ``folder``."""
    report, stacks = _report(folder, rank), folder / f"stacks_{rank}.txt"
    if report.exists():
        return Ended(*pickle.loads(report.read_bytes()))
    if stacks.exists() and stacks.read_text():
        why = "it had not ended in time"
        return Ended(failure=f"{why}. Where it stood:\n{stacks.read_text()}", why=why)
    why = f"it has ended with exit code {exit_code}, and without a result"
    return Ended(failure=why, why=why)


def main() -> None:
    """Do the job of the folder that the command line names."""
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    deadline, call, files = pickle.loads((folder / _JOB).read_bytes())
    stacks = open(folder / f"stacks_{rank}.txt", "w")  # noqa: SIM115  # until the process ends
    faulthandler.dump_traceback_later(max(deadline - time.time(), 0.1), exit=True, file=stacks)
    ended = _done(call, files)
    faulthandler.cancel_dump_traceback_later()
    # Renamed when it is whole: the rank may be ended at any time.
    temporary = folder / f"temporary_{rank}"
    temporary.write_bytes(_pickled(ended))
    temporary.rename(_report(folder, rank))
    sys.exit(bool(ended.failure))


def _end_with_parent() -> None:
    os.read(0, 1)  # which nobody writes to: it returns when the other end is gone
    os._exit(1)


def _done(call: bytes, files: dict[str, str]) -> Ended:
    try:
        for name, file in files.items():
            _provide(name, file)
        function, args = pickle.loads(call)
        return Ended(function(*args))
    except Exception as error:
        return Ended(failure=traceback.format_exc(), error=error, at=time.time(), why=_in_one_line(error))


def _provide(name: str, file: str) -> None:
    """Import a module by its name, or, as a test runner does that imports files from anywhere, from its file."""
    try:
        found = None if name == "__main__" else importlib.import_module(name)
    except ModuleNotFoundError:
        found = None
    if found is None or not os.path.samefile(str(found.__file__), file):
        # Under another name than `__main__` it does not run as a program.
        spec = importlib.util.spec_from_file_location("__mp_main__" if name == "__main__" else name, file)
        assert spec is not None and spec.loader is not None, "it was imported from there"
        # Unpickling asks for the packages around it too.
        for parent in accumulate(name.split(".")[:-1], "{}.{}".format):
            sys.modules.setdefault(parent, ModuleType(parent))
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


def _pickled(ended: Ended) -> bytes:
    try:
        data = pickle.dumps(tuple(ended))
        pickle.loads(data)  # exceptions may be written that cannot be read
        return data
    except Exception as error:
        if ended.failure:
            return pickle.dumps(tuple(ended._replace(error=None)))
        what = "what it returned cannot be sent back"
        why = f"{what}: {_in_one_line(error)}"
        return pickle.dumps(tuple(Ended(failure=f"{what}:\n{traceback.format_exc()}", at=time.time(), why=why)))


def _in_one_line(error: BaseException) -> str:
    return " ".join(traceback.format_exception_only(error)[-1].split()).rstrip(".")


def _report(folder: Path, rank: int) -> Path:
    return folder / f"rank_{rank}.pickle"
