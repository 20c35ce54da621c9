"""Lightning's ``profilers``."""

from trainkit.compat.lightning.absent import absent_names
from trainkit.compat.lightning.profilers.profiler import PassThroughProfiler, Profiler, SimpleProfiler

__all__ = ["PassThroughProfiler", "Profiler", "SimpleProfiler"]

_TORCH = "torch.profiler.profile around trainer.fit; a profiler comes with a later version of trainkit"

__getattr__ = absent_names(__name__, {"AdvancedProfiler": _TORCH, "PyTorchProfiler": _TORCH, "XLAProfiler": _TORCH})
