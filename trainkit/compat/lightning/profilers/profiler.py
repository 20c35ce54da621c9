"""Profilers, as far as a Trainer and the user's own code use them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import torch

from trainkit import profilers
from trainkit.output import say


class Profiler(profilers.Profiler):
    """Measures actions of the user's own: ``with self.profiler.profile("augment"): ...``; torch's profiler shows them.

    A subclass may override ``start`` and ``stop``. What the loops do is not among the actions.

    Args:
        dirpath: Where `describe` writes; None prints.
        filename: The file's name there, without ``.txt``.

    Attributes:
        recorded_durations: The seconds of each action, each time it ran.
    """

    def __init__(self, dirpath: str | os.PathLike[str] | None = None, filename: str | None = None) -> None:
        self.dirpath = dirpath
        self.filename = filename
        self.recorded_durations: defaultdict[str, list[float]] = defaultdict(list)
        self._started: dict[str, float] = {}

    def start(self, action_name: str) -> None:
        """An action begins."""
        self._started[action_name] = monotonic()

    def stop(self, action_name: str) -> None:
        """An action ends."""
        self.recorded_durations[action_name].append(monotonic() - self._started.pop(action_name))

    @contextmanager
    def profile(self, action_name: str) -> Iterator[Any]:
        """Measure what runs inside."""
        self.start(action_name)
        try:
            with torch.profiler.record_function(action_name):
                yield action_name
        finally:
            self.stop(action_name)

    def summary(self) -> str:
        """Return a table of the actions; empty if there were none."""
        if not self.recorded_durations:
            return ""
        rows = [f"{'action':40} {'calls':>8} {'total s':>12} {'mean s':>12}"]
        for action, durations in sorted(self.recorded_durations.items(), key=lambda item: -sum(item[1])):
            total = sum(durations)
            rows.append(f"{action:40} {len(durations):8} {total:12.6f} {total / len(durations):12.6f}")
        return "\n".join(rows)

    def describe(self) -> None:
        """Print the table, or write it where it was asked for."""
        text = self.summary()
        if self.dirpath is None:
            if text:
                say(text)
            return
        os.makedirs(self.dirpath, exist_ok=True)
        with open(os.path.join(self.dirpath, f"{self.filename or 'profile'}.txt"), "w", encoding="utf-8") as file:
            file.write(text + "\n")


class PassThroughProfiler(Profiler):
    """Measures nothing."""

    def start(self, action_name: str) -> None:
        """Do nothing."""

    def stop(self, action_name: str) -> None:
        """Do nothing."""


class SimpleProfiler(Profiler, profilers.SimpleProfiler):
    """Measures where the time of a call went, as ``profiler="simple"`` of trainkit does, and the user's own actions.

    Args:
        dirpath: See `Profiler`.
        filename: See `Profiler`.
        extended: Accepted: there is one table.
    """

    def __init__(
        self, dirpath: str | os.PathLike[str] | None = None, filename: str | None = None, extended: bool = True
    ) -> None:
        Profiler.__init__(self, dirpath, filename)
        profilers.SimpleProfiler.__init__(self)

    @contextmanager
    def profile(self, action_name: str) -> Iterator[Any]:
        """Measure what runs inside."""
        with Profiler.profile(self, action_name), profilers.SimpleProfiler.profile(self, action_name):
            yield action_name

    def summary(self) -> str:
        """Return the shares, and the tables of plugins and of actions."""
        return "\n\n".join(filter(None, (profilers.SimpleProfiler.summary(self), Profiler.summary(self))))
