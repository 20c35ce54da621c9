"""`DDPStrategy` with Lightning's arguments."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from trainkit.checks import takes_numpy
from trainkit.errors import ConfigError
from trainkit.strategies.ddp import DDP
from trainkit.trainer.default_plugins import refuse_unknown_arguments


class DDPStrategy(DDP):
    """trainkit's `DDP`.

    Args:
        process_group_backend: As for ``torch.distributed.init_process_group``.
        timeout: How long a rank waits for the others.
        start_method: Accepted: torch's launcher starts the processes.
        find_unused_parameters: Look for parameters that took no part in a loss.
        static_graph: Promise that every step uses the same parameters in the same order.
        gradient_as_bucket_view: Let ``.grad`` share memory with the buffers that are sent.
        bucket_cap_mb: The size of these buffers.
        broadcast_buffers: Let all ranks take the buffers of rank 0 ahead of each step.
        ddp_comm_state: What the hook is called with.
        ddp_comm_hook: What exchanges a buffer in place of an average.
        ddp_comm_wrapper: A function that makes the hook another one, such as ``fp16_compress_wrapper``.
        unknown: None may be given.

    Raises:
        UnknownArgumentError: If an argument of Lightning's is given that trainkit does not have.
    """

    @takes_numpy
    def __init__(
        self,
        *,
        process_group_backend: str | None = None,
        timeout: timedelta | None = None,
        start_method: str = "popen",
        find_unused_parameters: bool = False,
        static_graph: bool = False,
        gradient_as_bucket_view: bool = True,
        bucket_cap_mb: float | None = None,
        broadcast_buffers: bool = True,
        ddp_comm_state: Any = None,
        ddp_comm_hook: Callable[..., Any] | None = None,
        ddp_comm_wrapper: Callable[..., Any] | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown_arguments(DDPStrategy, unknown)
        if ddp_comm_wrapper is not None:
            if ddp_comm_hook is None:
                raise ConfigError("DDPStrategy: ddp_comm_wrapper is for a ddp_comm_hook, and there is none.")
            ddp_comm_hook = ddp_comm_wrapper(ddp_comm_hook)
        super().__init__(
            find_unused_parameters=find_unused_parameters,
            static_graph=static_graph,
            gradient_as_bucket_view=gradient_as_bucket_view,
            bucket_cap_mb=bucket_cap_mb,
            broadcast_buffers=broadcast_buffers,
            comm_hook=ddp_comm_hook,
            comm_state=ddp_comm_state,
            process_group_backend=process_group_backend,
            **({} if timeout is None else {"timeout_s": timeout.total_seconds()}),
        )
