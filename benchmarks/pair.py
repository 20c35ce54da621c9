"""One contender and one case, measured in a process of its own: what one framework changes cannot touch another."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

TIMEOUT_S = 900


def measure_in_new_process(
    case: str, contender: str, turns: int | None, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """Return the figures of ``contender`` in ``case``, or under ``not_measured`` why there are none.

    The process has a terminal to draw its progress bar in, which nobody sees.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figures.json")
        command = [sys.executable, "-m", "benchmarks.pair", case, contender, str(turns or 0), str(path)]
        ours, theirs = pty.openpty()
        reader = _Reader(ours)
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, timeout=timeout_s, env=_environment()
            )
        except subprocess.TimeoutExpired:
            return {"not_measured": f"took longer than {timeout_s:.0f} s"}
        finally:
            os.close(theirs)
            said = reader.close()
        if path.exists():
            figures: dict[str, Any] = json.loads(path.read_text())
            return figures
    return {"not_measured": f"the process ended with exit status {done.returncode}: {said[-300:]}".strip(" :")}


def measure_here(case: str, name: str, turns: int) -> dict[str, Any]:
    """Return the figures of the contender called ``name`` in ``case``; 0 turns are as many as the case has."""
    import warnings

    import torch

    from benchmarks import contenders
    from benchmarks.cases import CASES
    from benchmarks.figures import as_dicts
    from benchmarks.job import Unsupported

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        contender = contenders.load(name)
    except ImportError as error:
        return {"unavailable": _reason(error)}
    figures: dict[str, Any] = {"version": contenders.version(contender)}
    try:
        most = CASES[case].turns
        comparisons = CASES[case].measure(contender, min(turns, most) if turns else most)
    except Unsupported as reason:
        return figures | {"not_measured": str(reason)}
    except Exception as error:  # whatever a framework raises is a figure of its own
        return figures | {"not_measured": f"fails with {_reason(error)}"}
    return figures | as_dicts(comparisons)


class _Reader:
    """Reads what a process draws, so that it need not wait, and keeps the end of it."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._end = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> str:
        """Return the end of what was drawn. The process has closed its side."""
        self._thread.join()
        os.close(self._terminal)
        return self._end.decode(errors="replace")

    def _read(self) -> None:
        try:
            while chunk := os.read(self._terminal, 65536):
                self._end = (self._end + chunk)[-2000:]
        except OSError:
            pass  # how a terminal says that its other side is closed


def _environment() -> dict[str, str]:
    here = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "COLUMNS": "120", "LINES": "40", "TERM": "xterm"}


def _reason(error: BaseException) -> str:
    first, *_ = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first}"


if __name__ == "__main__":
    case, contender, turns, path = sys.argv[1:]
    Path(path).write_text(json.dumps(measure_here(case, contender, int(turns))))
