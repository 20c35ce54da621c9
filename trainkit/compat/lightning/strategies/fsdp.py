"""`FSDPStrategy` with Lightning's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from trainkit.checks import takes_numpy
from trainkit.errors import ConfigError
from trainkit.strategies.fsdp.strategy import FSDP
from trainkit.trainer.default_plugins import refuse_unknown_arguments

_RESHARDS = {"FULL_SHARD": True, "HYBRID_SHARD": True, "SHARD_GRAD_OP": False, "_HYBRID_SHARD_ZERO2": False}


class FSDPStrategy(FSDP):
    """trainkit's `FSDP`, which is FSDP2 where Lightning has FSDP1.

    Args:
        process_group_backend: As for ``torch.distributed.init_process_group``.
        timeout: How long a rank waits for the others.
        cpu_offload: Whether parts are kept in the memory of the CPU.
        mixed_precision: A ``MixedPrecisionPolicy`` of FSDP2.
        auto_wrap_policy: Classes of modules, or a function that tells of a module whether it is a unit.
        activation_checkpointing: The same as ``activation_checkpointing_policy``.
        activation_checkpointing_policy: Classes of modules that compute their forward again in backward, or a function.
        sharding_strategy: ``FULL_SHARD``, ``SHARD_GRAD_OP``, or ``HYBRID_SHARD`` with a ``device_mesh``.
        state_dict_type: ``"full"`` or ``"sharded"``.
        device_mesh: ``(replicas, shards)``.
        unknown: None may be given.

    Raises:
        UnknownArgumentError: If an argument of Lightning's is given that trainkit does not have.
        ConfigError: If ``sharding_strategy`` does not shard.
    """

    @takes_numpy
    def __init__(
        self,
        *,
        process_group_backend: str | None = None,
        timeout: timedelta | None = None,
        cpu_offload: bool | None = None,
        mixed_precision: Any = None,
        auto_wrap_policy: Any = None,
        activation_checkpointing: Any = None,
        activation_checkpointing_policy: Any = None,
        sharding_strategy: Any = "FULL_SHARD",
        state_dict_type: Any = "full",
        device_mesh: tuple[int, ...] | Mapping[str, int] | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown_arguments(FSDPStrategy, unknown)
        sharding = getattr(sharding_strategy, "name", str(sharding_strategy))
        if sharding not in _RESHARDS:
            raise ConfigError(
                f"FSDPStrategy(sharding_strategy={sharding_strategy!r}) does not shard. Allowed: "
                f"{', '.join(_RESHARDS)}; or strategy='ddp'."
            )
        again = activation_checkpointing_policy or activation_checkpointing
        super().__init__(
            wrap_policy=auto_wrap_policy,
            mixed_precision=mixed_precision,
            reshard_after_forward=_RESHARDS[sharding],
            activation_checkpointing=again or False,
            cpu_offload=bool(cpu_offload),
            mesh=device_mesh,
            checkpoint=state_dict_type,
            process_group_backend=process_group_backend,
            timeout_s=1800.0 if timeout is None else timeout.total_seconds(),
        )
