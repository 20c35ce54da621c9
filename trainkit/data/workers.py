"""Loader workers that outlive a signal to the whole process group, so that the run can end at a batch boundary.

Schedulers signal every process of a job. Torch's workers would die of that at once, and the process that trains would
get an error in the middle of whatever it does. Here they go on, and it is the run that ends them.
"""

from __future__ import annotations

import copy
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

if sys.platform != "win32":
    from multiprocessing.context import ForkProcess, ForkServerProcess, SpawnProcess

STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
"""What a run is told to stop with."""

PATIENCE_S = 5.0
"""How long all workers of a loader together may take to end, before they are killed. Torch waits as long for each."""


def start(loader: Iterable[Any]) -> Iterator[Any]:
    """Return ``iter(loader)``. If that starts workers, they outlive the signals that stop a run."""
    if not (isinstance(loader, DataLoader) and loader.num_workers):
        return iter(loader)
    context = loader.multiprocessing_context or multiprocessing.get_context()
    # A class of the user's own is left as it is: it may be ended in another way.
    process = _PROCESSES.get(context.Process)
    if process is None:
        return iter(loader)
    _start_helpers(context.get_start_method())
    lasting = copy.copy(context)
    # A class variable elsewhere, which is to differ in this one.
    lasting.Process = partial(process, patience=_Patience())  # type: ignore[misc]
    given = loader.multiprocessing_context, loader.worker_init_fn
    # For the time of the call, and not on a copy: a loader of the user's own class may count its passes on itself.
    loader.multiprocessing_context, loader.worker_init_fn = lasting, _Outlive(loader.worker_init_fn)
    try:
        with _blocked():
            return iter(loader)
    finally:
        loader.multiprocessing_context, loader.worker_init_fn = given


def end(batches: Iterator[Any] | None) -> None:
    """End the workers that make ``batches``, if there are any, although not all batches were taken."""
    if hasattr(batches, "_shutdown_workers"):
        batches._shutdown_workers()  # type: ignore[union-attr]  # torch has no public way


def _start_helpers(method: str) -> None:
    """Start the processes that Python needs for ``method`` and keeps: signals blocked in them would stay so."""
    if method != "fork":
        resource_tracker.ensure_running()
    if method == "forkserver":
        forkserver.ensure_running()


@contextmanager
def _blocked() -> Iterator[None]:
    """Hold signals back inside. Processes that are started inside begin like this; `_Outlive` ends it for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Outlive:
    """A ``worker_init_fn`` that lets signals pass, and then calls the user's own.

    Args:
        then: The user's ``worker_init_fn``.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then

    def __call__(self, worker_id: int) -> None:
        for number in STOP_SIGNALS:
            # Not SIG_IGN: programs that a dataset starts would inherit it, and could not be terminated.
            signal.signal(number, _pass_over)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        if self.then is not None:
            self.then(worker_id)


def _pass_over(number: int, frame: Any) -> None:
    """Do nothing."""


class _Patience:
    """The time in which the workers of one pass may end, counted from when the first of them is waited for."""

    def __init__(self) -> None:
        self._until_s: float | None = None

    def left_s(self) -> float:
        now = time.monotonic()
        if self._until_s is None:
            self._until_s = now + PATIENCE_S
        return max(self._until_s - now, 0.1)


class _Ended(BaseProcess):
    """A process that SIGTERM does not end, and so is killed where others are terminated.

    Args:
        patience: Shared by those that are told to end together.
    """

    def __init__(self, *args: Any, patience: _Patience, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience = patience

    def start(self) -> None:
        super().start()
        # Python's exit terminates what is left of such processes, past their own method, and waits without end.
        self._popen.terminate = self._popen.kill  # type: ignore[attr-defined]

    def join(self, timeout: float | None = None) -> None:
        # Torch waits for one worker after the other, and has told them all before.
        super().join(None if timeout is None else min(timeout, self._patience.left_s()))


_PROCESSES: dict[Any, type[_Ended]] = {}
"""For each of Python's process classes the one that is killed."""

if sys.platform != "win32":  # which has neither groups of processes nor these classes
    # At the top level, since a process that is spawned unpickles its own class.
    class _Forked(_Ended, ForkProcess):
        pass

    class _Spawned(_Ended, SpawnProcess):
        pass

    class _Served(_Ended, ForkServerProcess):
        pass

    _PROCESSES |= {ForkProcess: _Forked, SpawnProcess: _Spawned, ForkServerProcess: _Served}
