"""Profilers: what measures where the time of a run goes. Read ``base.py`` and ``simple.py`` first."""

from trainkit.profilers.base import Profiler
from trainkit.profilers.simple import SimpleProfiler
from trainkit.profilers.torch_trace import TorchProfiler

__all__ = ["Profiler", "SimpleProfiler", "TorchProfiler"]
