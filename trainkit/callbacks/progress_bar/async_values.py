"""Reading metrics without ever waiting for a device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class LateValues:
    """The newest values of metrics that are there already.

    A value on the CPU can be read at once. That of another device is copied while the device goes on, and shows up in a
    later call, when the copy is complete.
    """

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._copies: dict[str, Tensor] = {}
        self._copied: list[torch.Event] = []

    def look(self, metrics: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the values of ``metrics`` as far as they are known by now."""
        if self._copies and all(event.query() for event in self._copied):
            self._values |= {name: copy.item() for name, copy in self._copies.items()}
            self._copies = {}
        elsewhere = {}
        for name, value in metrics.items():
            if value.device.type == "cpu":
                self._values[name] = value.item()
            else:
                elsewhere[name] = value
        if elsewhere and not self._copies:
            self._copy(elsewhere)
        return {name: self._values[name] for name in metrics if name in self._values}

    def note(self, row: Mapping[str, float]) -> None:
        """Take values that were read for another purpose; they are newer than copies under way."""
        self._values |= row
        for name in row:
            self._copies.pop(name, None)

    def _copy(self, metrics: Mapping[str, Tensor]) -> None:
        # From an accelerator this allocates pinned memory, without which the copy would wait.
        self._copies = {name: value.to("cpu", non_blocking=True) for name, value in metrics.items()}
        self._copied = [_recorded(device) for device in {value.device for value in metrics.values()}]


def _recorded(device: torch.device) -> torch.Event:
    """Return an event that is over when ``device`` has done what it was given up to now."""
    event = torch.Event(device)
    event.record(torch.accelerator.current_stream(device))
    return event
