"""Lightning's ``profilers``."""

from trainkit.compat.lightning.absent import LATER_PROFILER, absent_names
from trainkit.compat.lightning.profilers.profiler import PassThroughProfiler, Profiler, SimpleProfiler

__all__ = ["PassThroughProfiler", "Profiler", "SimpleProfiler"]

__getattr__ = absent_names(
    __name__, dict.fromkeys(("AdvancedProfiler", "PyTorchProfiler", "XLAProfiler"), LATER_PROFILER)
)
