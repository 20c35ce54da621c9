"""One process per device, each with a full copy of the module, started by torchrun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from itertools import chain
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainkit.checks import flags, number, takes_numpy, text
from trainkit.errors import DeviceError, ModuleError
from trainkit.module import TrainModule
from trainkit.output import speak_as
from trainkit.strategies.base import Strategy
from trainkit.strategies.launch import Launch, open_store, read_launch
from trainkit.strategies.rank_group import end_default_group, start_default_group
from trainkit.types import NO_CONTEXT


class DDP(Strategy):
    """One full copy of the module on each rank; all-reduce averages the gradients.

    Start it with ``torchrun --nproc-per-node=N script.py``. A process group that exists already is used, and left alone
    at the end. With manual optimization the ranks exchange gradients before each optimizer step, not during backward.

    Args:
        find_unused_parameters: Whether to look for parameters that took no part in a loss, which costs a walk through
            its graph at every step.
        static_graph: Whether every step uses the same parameters in the same order, as the user promises.
        gradient_as_bucket_view: Whether ``.grad`` shares memory with the buffers that are sent.
        process_group_backend: As for ``torch.distributed.init_process_group``. By default nccl for tensors on a GPU and
            gloo for those on the CPU.
        timeout_s: How long a rank waits for the others before it raises.

    Source: Li et al. 2020, "PyTorch Distributed", arXiv:2006.15704.
    """

    name = "ddp"
    uses_all_devices = True

    @takes_numpy
    def __init__(
        self,
        *,
        find_unused_parameters: bool = False,
        static_graph: bool = False,
        gradient_as_bucket_view: bool = True,
        process_group_backend: str | None = None,
        timeout_s: float = 1800.0,
    ) -> None:
        flags("DDP", find_unused_parameters=find_unused_parameters, static_graph=static_graph)
        flags("DDP", gradient_as_bucket_view=gradient_as_bucket_view)
        text("DDP", optional=True, process_group_backend=process_group_backend)
        number("timeout_s", timeout_s, above=0, finite=True, where="DDP")
        self.find_unused_parameters = find_unused_parameters
        self.static_graph = static_graph
        self.gradient_as_bucket_view = gradient_as_bucket_view
        self.process_group_backend = process_group_backend
        self.timeout_s = timeout_s
        self._wrapped: DistributedDataParallel | None = None
        self._parameters: list[nn.Parameter] = []
        self._wrapped_trained: list[bool] = []  # of each parameter, whether the present wrapper exchanges its gradient
        self._synced_once = False  # whether the present wrapper has exchanged gradients

    def assign(self, devices: Sequence[torch.device]) -> None:
        launch = read_launch() or Launch()
        if len(devices) != launch.local_world_size:
            raise DeviceError(
                f"strategy 'ddp' needs one process for each device of a machine. Here are {len(devices)} device(s) "
                f"({', '.join(map(str, devices))}) and {launch.local_world_size} process(es).\n"
                f"    start with   torchrun --nproc-per-node={len(devices)} script.py"
            )
        self.devices = tuple(devices)
        self.device = devices[launch.local_rank]
        self.rank, self.local_rank = launch.rank, launch.local_rank
        self.world_size, self.num_nodes = launch.world_size, launch.num_nodes
        speak_as(self.rank, self.world_size)

    def setup(self) -> None:
        super().setup()
        if not dist.is_initialized():
            self._start_group()

    def _start_group(self) -> None:
        timeout = timedelta(seconds=self.timeout_s)
        start_default_group(
            # gloo beside nccl, so that flags can be exchanged on the CPU, without waiting for the GPU.
            backend=self.process_group_backend or ("cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo"),
            store=open_store(read_launch() or Launch(), timeout),
            rank=self.rank,
            world_size=self.world_size,
            timeout=timeout,
            # Without it torch guesses the device from the rank at the first barrier, with a warning.
            device_id=self.device if self.device.type == "cuda" else None,
        )

    def wrap(self, module: TrainModule) -> None:
        module.to(self.device)
        # First: between modules of different tensors the broadcasts would hang, or fail without naming them.
        self._refuse_different_modules(module)
        # Not left to DDP: evaluation does without it, and a plugin may copy the weights before the first step.
        for tensor in chain(module.parameters(), module.buffers()):
            dist.broadcast(tensor.detach(), src=0)

    def training_step(self, module: TrainModule) -> Callable[..., Any]:
        self._parameters = list(module.parameters())
        if not (any(self._trained()) and module.automatic_optimization):
            # DDP sees one backward per forward. Manual optimization has any number, and uses `sync_gradients`.
            self._wrapped = None
            return module.training_step
        self._wrap(module)
        # The attribute is read at each call: `gradient_sync` may wrap the module anew in the middle of a fit.
        return lambda *arguments: self._wrapped(*arguments)  # type: ignore[misc]  # it stays wrapped

    def training_step_alone(self, module: TrainModule) -> Callable[..., Any]:
        # Without a wrapper backward exchanges nothing, and `gradient_sync` has nothing to switch off.
        self._wrapped = None
        return module.training_step

    def gradient_sync(self, *, enabled: bool) -> AbstractContextManager[None]:
        if self._wrapped is None:
            return NO_CONTEXT
        trained = self._trained()
        if trained != self._wrapped_trained and any(trained):
            # A callback has frozen or unfrozen layers, and DDP exchanges the parameters that were trained when it was
            # made. What it gathered so far in this group is averaged first; averaging an average changes nothing.
            self._average(self._parameters)
            self._wrap(self._wrapped.module.module)
        # With `static_graph`, DDP fails an assertion if the first step is under `no_sync`.
        first_of_static = self.static_graph and not self._synced_once
        self._synced_once = True
        return NO_CONTEXT if enabled or first_of_static else self._wrapped.no_sync()

    def sync_gradients(self, module: nn.Module) -> None:
        self._average([parameter for parameter in module.parameters() if parameter.requires_grad])

    def _trained(self) -> list[bool]:
        """Return of each parameter whether it is trained now."""
        return [parameter.requires_grad for parameter in self._parameters]

    def _wrap(self, module: TrainModule) -> None:
        self._wrapped = None  # the old wrapper goes first, and takes its hooks off the parameters
        self._wrapped_trained = self._trained()
        self._synced_once = False
        self._wrapped = DistributedDataParallel(
            _StepAsForward(module),
            find_unused_parameters=self.find_unused_parameters,
            static_graph=self.static_graph,
            gradient_as_bucket_view=self.gradient_as_bucket_view,
            init_sync=False,  # `wrap` has made the ranks equal
        )

    def _average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average the gradients of ``parameters`` over the ranks; a missing one counts as zero."""
        # Every rank has to take part in the same exchanges, so they agree on the parameters that have a gradient
        # anywhere. One that has none on all ranks stays without: an optimizer skips it.
        has_gradient = torch.tensor([parameter.grad is not None for parameter in parameters], device=self.device)
        somewhere = self.all_reduce(has_gradient.to(torch.uint8), "max").tolist()
        for parameter, used in zip(parameters, somewhere, strict=True):
            if used:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                # Into the same tensor, which may be a view of a bucket of DDP.
                parameter.grad = gradient.copy_(self.all_reduce(gradient, "mean"))

    def waits_in_backward(self) -> bool:
        return self._wrapped is not None and self._wrapped.require_backward_grad_sync

    def teardown(self) -> None:
        # DDP holds on to the group, so it goes first.
        self._wrapped = None
        # Several ranks keep theirs until the program ends: a checkpoint may be saved when a call is over.
        if not self.is_distributed:
            end_default_group()

    def _refuse_different_modules(self, module: TrainModule) -> None:
        """Raise `ModuleError` on every rank if names, shapes or dtypes of tensors differ between ranks."""
        tensors = chain(module.named_parameters(), module.named_buffers())
        own = {name: (tuple(tensor.shape), str(tensor.dtype)) for name, tensor in tensors}
        for rank, other in enumerate(self.all_gather_object(own)):
            name = next((name for name in {**own, **other} if own.get(name) != other.get(name)), None)
            if name is not None:
                there, here = other.get(name, "missing"), own.get(name, "missing")
                raise ModuleError(
                    f"the modules of two ranks differ: {name!r} is {there} on rank {rank}, and {here} on rank "
                    f"{self.rank}. Build the same module on every rank."
                )


class _StepAsForward(nn.Module):
    """A module whose ``forward`` is ``training_step``, as DDP exchanges gradients only for what runs in ``forward``."""

    def __init__(self, module: TrainModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module.training_step(*args, **kwargs)
