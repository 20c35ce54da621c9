"""Bringing a module to where, and into the form in which, a run computes."""

from __future__ import annotations

import torch

from trainkit.module import TrainModule
from trainkit.precision.base import Precision
from trainkit.strategies.base import Strategy
from trainkit.trainer.arguments import OptimizationArguments
from trainkit.trainer.compilation import compile_layers


def place_module(
    module: TrainModule, strategy: Strategy, precision: Precision, arguments: OptimizationArguments
) -> None:
    """Convert, compile and wrap ``module``, in place.

    Optimizers are made afterwards, since they hold on to the parameters.
    """
    precision.setup(strategy.device)
    if strategy.has_placed(module, precision.dtype):
        strategy.wrap(module)  # an earlier call has left it in its place
        return
    precision.convert(module)
    if arguments.sync_batchnorm and strategy.is_distributed:
        sync_batchnorm(module)
    # Before it is wrapped: DistributedDataParallel calls the layers, and would be compiled itself otherwise.
    if arguments.compile is True:
        compile_layers(module, strategy)
    strategy.compute_in(precision.autocast_dtype)
    strategy.wrap(module)


def sync_batchnorm(module: TrainModule) -> None:
    """Let BatchNorm layers share their statistics between ranks."""
    for name, child in list(module.named_children()):
        convert = torch.nn.SyncBatchNorm.convert_sync_batchnorm
        setattr(module, name, convert(child))  # type: ignore[no-untyped-call]  # torch leaves it untyped
