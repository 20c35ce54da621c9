"""Lightning's ``profilers``."""

from trainkit.compat.lightning.absent import INSTEAD_OF_ADVANCED, absent_names
from trainkit.compat.lightning.profilers.profiler import PassThroughProfiler, Profiler, SimpleProfiler
from trainkit.compat.lightning.profilers.pytorch import PyTorchProfiler

__all__ = ["PassThroughProfiler", "Profiler", "PyTorchProfiler", "SimpleProfiler"]

__getattr__ = absent_names(__name__, dict.fromkeys(("AdvancedProfiler", "XLAProfiler"), INSTEAD_OF_ADVANCED))
