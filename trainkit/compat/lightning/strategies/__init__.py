"""Lightning's ``strategies``."""

from trainkit.compat.lightning.absent import absent_names
from trainkit.compat.lightning.strategies.ddp import DDPStrategy
from trainkit.compat.lightning.strategies.single_device import SingleDeviceStrategy
from trainkit.strategies.base import Strategy

__all__ = ["DDPStrategy", "SingleDeviceStrategy", "Strategy"]

_LATER = "strategy='ddp'; strategies that shard the model come with a later version of trainkit"

__getattr__ = absent_names(
    __name__,
    {
        "DeepSpeedStrategy": _LATER,
        "FSDPStrategy": _LATER,
        "ModelParallelStrategy": _LATER,
        "ParallelStrategy": "Strategy, the base of all strategies",
        "SingleDeviceXLAStrategy": "strategy='auto'; there is no TPU support",
        "XLAStrategy": "strategy='ddp'; there is no TPU support",
    },
)
