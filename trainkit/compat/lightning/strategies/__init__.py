"""Lightning's ``strategies``."""

from trainkit.compat.lightning.absent import LATER_STRATEGY, absent_names
from trainkit.compat.lightning.strategies.ddp import DDPStrategy
from trainkit.compat.lightning.strategies.single_device import SingleDeviceStrategy
from trainkit.strategies.base import Strategy

__all__ = ["DDPStrategy", "SingleDeviceStrategy", "Strategy"]

__getattr__ = absent_names(
    __name__,
    {
        "DeepSpeedStrategy": LATER_STRATEGY,
        "FSDPStrategy": LATER_STRATEGY,
        "ModelParallelStrategy": LATER_STRATEGY,
        "ParallelStrategy": "Strategy, the base of all strategies",
        "SingleDeviceXLAStrategy": "strategy='auto'; there is no TPU support",
        "XLAStrategy": "strategy='ddp'; there is no TPU support",
    },
)
