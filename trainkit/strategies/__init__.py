"""Strategies: where tensors live, how a step runs there, how ranks agree. Read ``base.py`` and ``single.py`` first."""

from trainkit.strategies.base import Strategy
from trainkit.strategies.data_parallel import DataParallel
from trainkit.strategies.ddp import DDP
from trainkit.strategies.fsdp.strategy import FSDP
from trainkit.strategies.single import SingleDevice

__all__ = ["DDP", "FSDP", "DataParallel", "SingleDevice", "Strategy"]
