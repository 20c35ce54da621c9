"""Lightning's ``strategies``."""

from trainkit.compat.lightning.absent import LATER_STRATEGY, absent_names
from trainkit.compat.lightning.strategies.ddp import DDPStrategy
from trainkit.compat.lightning.strategies.fsdp import FSDPStrategy
from trainkit.compat.lightning.strategies.model_parallel import ModelParallelStrategy
from trainkit.compat.lightning.strategies.single_device import SingleDeviceStrategy
from trainkit.strategies.base import Strategy

__all__ = ["DDPStrategy", "FSDPStrategy", "ModelParallelStrategy", "SingleDeviceStrategy", "Strategy"]

__getattr__ = absent_names(
    __name__,
    {
        "DeepSpeedStrategy": LATER_STRATEGY,
        "ParallelStrategy": "Strategy, the base of all strategies",
        "SingleDeviceXLAStrategy": "strategy='auto'; there is no TPU support",
        "XLAStrategy": "strategy='ddp'; there is no TPU support",
    },
)
