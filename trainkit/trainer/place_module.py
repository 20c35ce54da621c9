"""Bringing a module to where, and into the form in which, a run computes."""

from __future__ import annotations

import torch

from trainkit.errors import DeviceError
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
        _refuse_cpu(strategy)
        sync_batchnorm(module)
    # Before it is wrapped: DistributedDataParallel calls the layers, and would be compiled itself otherwise.
    if arguments.compile is True:
        compile_layers(module, strategy)
    strategy.compute_in(precision.autocast_dtype)
    strategy.wrap(module)


def _refuse_cpu(strategy: Strategy) -> None:
    # torch says so in the first forward, and speaks of inputs.
    if strategy.device.type == "cpu":
        raise DeviceError(
            "sync_batchnorm=True needs GPUs: torch's SyncBatchNorm does not run on the CPU.\n"
            "    to do        leave it out; each rank then has statistics of its own batches, and those of rank 0 are "
            "evaluated and saved"
        )


def sync_batchnorm(module: TrainModule) -> None:
    """Let BatchNorm layers share their statistics between ranks."""
    for name, child in list(module.named_children()):
        convert = torch.nn.SyncBatchNorm.convert_sync_batchnorm
        setattr(module, name, convert(child))  # type: ignore[no-untyped-call]  # torch leaves it untyped
