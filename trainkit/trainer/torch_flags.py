"""Torch's global switches, for the time of one call of the Trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from trainkit.trainer.arguments import OptimizationArguments


@contextmanager
def torch_flags(arguments: OptimizationArguments) -> Iterator[None]:
    """Set torch's global switches for one call, and put them back afterwards."""
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark = torch.backends.cudnn.benchmark
    if arguments.deterministic is not None:
        torch.use_deterministic_algorithms(bool(arguments.deterministic), warn_only=arguments.deterministic == "warn")
    if arguments.benchmark is not None:
        torch.backends.cudnn.benchmark = arguments.benchmark
    # Global to the process, so that the next call, or another library, has to find them as they were.
    try:
        with torch.autograd.set_detect_anomaly(True) if arguments.detect_anomaly else nullcontext():
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
