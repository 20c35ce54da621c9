"""Logging the memory and the load of the device and of this process."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import torch

from trainkit.checks import flags, takes_numpy
from trainkit.hooks.callback import Callback

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class DeviceStatsMonitor(Callback):
    """Sends statistics of the device to the loggers before and after each training batch that has a row of metrics.

    On CUDA these are torch's ``memory_stats``; on the CPU the peak memory of this process, its CPU time (seconds) and
    the load average of the machine.

    Args:
        cpu_stats: Whether to send those of the CPU; None sends them if training runs on the CPU.
    """

    @takes_numpy
    def __init__(self, cpu_stats: bool | None = None) -> None:
        flags("DeviceStatsMonitor", optional=True, cpu_stats=cpu_stats)
        self.cpu_stats = cpu_stats
        self._before: dict[str, float] = {}  # of a batch that may have a row, until that is known

    def on_train_batch_start(self, trainer: Trainer) -> None:
        # The update that this batch makes is not counted yet; both rows of the batch are to stand at the same step.
        step = trainer.global_step + 1
        if trainer.loggers and trainer.fit_run.rows.may_have(step):
            self._before = self._figures(trainer, "on_train_batch_start")
            if trainer.fit_run.rows.are_foreseen:
                self._send_before(trainer, step)

    def on_train_batch_end(self, trainer: Trainer) -> None:
        step = trainer.global_step
        if trainer.loggers and trainer.fit_run.rows.newest_has_one():
            self._send_before(trainer, step)
            trainer.log_metrics(self._figures(trainer, "on_train_batch_end"), step)

    def _send_before(self, trainer: Trainer, step: int) -> None:
        if self._before:
            trainer.log_metrics(self._before, step)
            self._before = {}

    def _figures(self, trainer: Trainer, hook: str) -> dict[str, float]:
        figures = self._read(trainer.strategy.device)
        return {f"{type(self).__name__}.{hook}/{name}": value for name, value in figures.items()}

    def _read(self, device: torch.device) -> dict[str, float]:
        figures: dict[str, float] = {}
        if device.type == "cuda":
            # The caching allocator counts on the host, so this does not wait for the device.
            stats: dict[str, Any] = torch.cuda.memory_stats(device)
            figures |= {name: float(value) for name, value in stats.items()}
        if self.cpu_stats or (self.cpu_stats is None and device.type == "cpu"):
            figures |= cpu_figures()
        return figures


def cpu_figures() -> dict[str, float]:
    """Return the CPU time of this process, its peak memory and the machine's load average, where these are known."""
    figures = {"cpu_time_s": time.process_time()}
    if hasattr(os, "getloadavg"):
        figures["cpu_load_1min"] = os.getloadavg()[0]
    try:
        import resource
    except ImportError:  # Windows
        return figures
    return figures | {"cpu_peak_memory_kb": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)}
