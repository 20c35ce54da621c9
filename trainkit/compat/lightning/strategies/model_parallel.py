"""`ModelParallelStrategy` with Lightning's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

import torch

from trainkit.checks import takes_numpy
from trainkit.strategies.fsdp.mesh import read_mesh
from trainkit.strategies.fsdp.strategy import FSDP
from trainkit.trainer.default_plugins import refuse_unknown_arguments


class ModelParallelStrategy(FSDP):
    """trainkit's `FSDP` on a mesh with the dimensions ``data_parallel`` and ``tensor_parallel``.

    The module's ``configure_model`` parallelises it over ``self.device_mesh["tensor_parallel"]``. Over
    ``data_parallel`` it is sharded afterwards, by trainkit where the module has not done it itself.

    Args:
        data_parallel_size: How many different batches there are; "auto" is the number of machines.
        tensor_parallel_size: How many ranks compute a batch together; "auto" is the number of devices of a machine.
        save_distributed_checkpoint: Whether a checkpoint is left in parts.
        process_group_backend: As for ``torch.distributed.init_process_group``.
        timeout: How long a rank waits for the others.
        unknown: None may be given.

    Raises:
        UnknownArgumentError: If an argument of Lightning's is given that trainkit does not have.
    """

    @takes_numpy
    def __init__(
        self,
        *,
        data_parallel_size: Literal["auto"] | int = "auto",
        tensor_parallel_size: Literal["auto"] | int = "auto",
        save_distributed_checkpoint: bool = False,
        process_group_backend: str | None = None,
        timeout: timedelta | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown_arguments(ModelParallelStrategy, unknown)
        super().__init__(
            checkpoint="sharded" if save_distributed_checkpoint else "full",
            process_group_backend=process_group_backend,
            timeout_s=1800.0 if timeout is None else timeout.total_seconds(),
        )
        self._sizes = (data_parallel_size, tensor_parallel_size)

    def assign(self, devices: Sequence[torch.device]) -> None:
        data, tensor = self._sizes
        self.mesh = {"data_parallel": 1, "tensor_parallel": 1}  # until the number of machines is known
        super().assign(devices)
        self.mesh = read_mesh(
            {
                "data_parallel": self.num_nodes if data == "auto" else data,
                "tensor_parallel": len(devices) if tensor == "auto" else tensor,
            }
        )
        super().assign(devices)
