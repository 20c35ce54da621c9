"""Reading metrics without ever waiting for a device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class AsyncValues:
    """The newest values of metrics that can be read without waiting.

    A tensor on the CPU is read at once. A tensor on another device is copied asynchronously, and its value is returned
    by a later call, once the copy is complete.
    """

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._copies: dict[str, Tensor] = {}  # on the CPU; not filled until all of `_events` are over
        self._events: list[torch.Event] = []

    def poll(self, metrics: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Return the known values of ``metrics``, and start to copy newer ones; never waits."""
        # query() asks without waiting; item() before the copy is complete would read uninitialised memory.
        if self._copies and all(event.query() for event in self._events):
            self._values |= {name: copy.item() for name, copy in self._copies.items()}
            self._copies = {}
        elsewhere = {}
        for name, value in metrics.items():
            if isinstance(value, int | float) or value.device.type == "cpu":
                self._values[name] = float(value)
            else:
                elsewhere[name] = value
        # One round of copies at a time, so that copies never pile up behind a device that is slower than the display.
        if elsewhere and not self._copies:
            self._copy(elsewhere)
        return {name: self._values[name] for name in metrics if name in self._values}

    def update(self, row: Mapping[str, float]) -> None:
        """Take values that were read for a row of metrics. They are newer than the copies that are under way."""
        self._values |= row
        for name in row:
            self._copies.pop(name, None)

    def _copy(self, metrics: Mapping[str, Tensor]) -> None:
        # With non_blocking=True torch copies from an accelerator into pinned memory, and does not wait.
        self._copies = {name: value.to("cpu", non_blocking=True) for name, value in metrics.items()}
        self._events = [_record_event(device) for device in {value.device for value in metrics.values()}]


def _record_event(device: torch.device) -> torch.Event:
    """Return an event that is over when ``device`` has finished all work that is queued on its current stream."""
    event = torch.Event(device)
    event.record(torch.accelerator.current_stream(device))
    return event
