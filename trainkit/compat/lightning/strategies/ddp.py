"""`DDPStrategy` with Lightning's arguments."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from trainkit.checks import takes_numpy
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
        **unknown: Any,
    ) -> None:
        refuse_unknown_arguments(DDPStrategy, unknown)
        super().__init__(
            find_unused_parameters=find_unused_parameters,
            static_graph=static_graph,
            gradient_as_bucket_view=gradient_as_bucket_view,
            process_group_backend=process_group_backend,
            **({} if timeout is None else {"timeout_s": timeout.total_seconds()}),
        )
