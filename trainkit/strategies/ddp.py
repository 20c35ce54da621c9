"""One process per device, each with a full copy of the module."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from trainkit.checks import flags, number, takes_numpy, text
from trainkit.errors import ConfigError, ModuleError
from trainkit.module import TrainModule
from trainkit.module.writable import is_read_only
from trainkit.strategies.base import Strategy
from trainkit.strategies.flat_gradients import FlatGradients, broadcast
from trainkit.strategies.launch.processes import join_group, take_place
from trainkit.strategies.new_tensors import NewTensors, tensors_of
from trainkit.strategies.ranks.rank_group import end_default_group
from trainkit.strategies.ranks.same_modules import refuse_different_modules
from trainkit.types import NO_CONTEXT

_UNUSED = re.compile(r"did not receive grad for rank \d+: ((?:\d+ ?)+)")
"""What torch says of parameters that took no part in the loss, of which it gives numbers."""

_ARGUMENTS = inspect.signature(DistributedDataParallel.__init__).parameters
_SYNCS_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _ARGUMENTS else "broadcast_buffers"
"""What torch calls the argument by which buffers are sent ahead of a step; the older name warns in torch 2.15."""


class DDP(Strategy):
    """One full copy of the module on each rank; all-reduce averages the gradients.

    ``Trainer(devices=N)`` starts the processes, or ``torchrun --nproc-per-node=N script.py``. A process group that
    exists already is used, and left alone at the end. With manual optimization the ranks exchange gradients behind each
    ``manual_backward``, in few large pieces, and not during it.

    Args:
        find_unused_parameters: Whether to look for parameters that took no part in a loss, which costs a walk through
            its graph at every step.
        static_graph: Whether every step uses the same parameters in the same order, as the user promises.
        gradient_as_bucket_view: Whether ``.grad`` shares memory with the buffers that are sent.
        bucket_cap_mb: Of what size these buffers are, in MiB; by default 25. Small ones are sent earlier, and more of
            them.
        broadcast_buffers: Whether all ranks take the buffers of rank 0 ahead of each step that exchanges gradients.
        comm_hook: What exchanges a buffer in place of an average, such as ``fp16_compress_hook`` and ``powerSGD_hook``
            of ``torch.distributed.algorithms.ddp_comm_hooks``: ``(comm_state, bucket) -> future``. For automatic
            optimization.
        comm_state: What the hook is called with, such as a ``PowerSGDState``. It is in no checkpoint.
        process_group_backend: As for ``torch.distributed.init_process_group``. By default nccl for tensors on a GPU and
            gloo for those on the CPU.
        timeout_s: How long a rank waits for the others before it raises.

    Raises:
        ConfigError: If an argument is not usable.

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
        bucket_cap_mb: float | None = None,
        broadcast_buffers: bool = True,
        comm_hook: Callable[..., Any] | None = None,
        comm_state: Any = None,
        process_group_backend: str | None = None,
        timeout_s: float = 1800.0,
    ) -> None:
        flags("DDP", find_unused_parameters=find_unused_parameters, static_graph=static_graph)
        flags("DDP", gradient_as_bucket_view=gradient_as_bucket_view, broadcast_buffers=broadcast_buffers)
        number("bucket_cap_mb", bucket_cap_mb, above=0, finite=True, optional=True, where="DDP")
        _check_hook(comm_hook, comm_state)
        text("DDP", optional=True, process_group_backend=process_group_backend)
        number("timeout_s", timeout_s, above=0, finite=True, where="DDP")
        self.find_unused_parameters = find_unused_parameters
        self.static_graph = static_graph
        self.gradient_as_bucket_view = gradient_as_bucket_view
        self.bucket_cap_mb = bucket_cap_mb
        self.broadcast_buffers = broadcast_buffers
        self.comm_hook, self.comm_state = comm_hook, comm_state
        # PowerSGD keeps the error that it has made by buffer, and buffers are made anew in the second step of a run.
        self.unsaved = "" if comm_state is None else f"what {type(comm_state).__name__}, its comm_state, has collected"
        self.process_group_backend = process_group_backend
        self.timeout_s = timeout_s
        self._wrapped: DistributedDataParallel | None = None
        self._parameters: list[nn.Parameter] = []
        self._wrapped_trained: list[bool] = []  # of each parameter, whether the present wrapper exchanges its gradient
        self._automatic: TrainModule | None = None  # what exchanges its gradients in backward, and not behind it
        self._forward: Callable[..., Any] | None = None  # its step, through the wrapper if there is one
        self._gradients = FlatGradients()
        self._new_tensors = NewTensors()
        self._handles: list[RemovableHandle] = []
        self._exchange = _Exchange(self._end_exchange)
        self._toggled = False  # whether the present step has switched what requires a gradient
        self._synced_once = False  # whether the present wrapper has exchanged gradients

    def assign(self, devices: Sequence[torch.device]) -> None:
        take_place(self, devices)

    def setup(self) -> None:
        super().setup()
        join_group(self, self.process_group_backend)

    def wrap(self, module: TrainModule) -> None:
        module.to(self.device)
        # First: between modules of different tensors the broadcasts would hang, or fail without naming them.
        refuse_different_modules(self, module)
        # Not left to DDP: evaluation does without it, and a plugin may copy the weights before the first step.
        broadcast(list(tensors_of(module)))
        self._new_tensors.watch(module)

    def training_step(self, module: TrainModule) -> Callable[..., Any]:
        self._wrapped = None
        # DDP sees one backward per forward. Manual optimization has any number, and uses `sync_gradients`.
        self._automatic = module if module.automatic_optimization else None
        if self._automatic is None:
            self._refuse_hook("with manual optimization, which exchanges gradients in pieces of its own")
            return self._manual_step(module)
        self._wrap(module)
        return self._automatic_step

    def training_step_alone(self, module: TrainModule) -> Callable[..., Any]:
        self._refuse_hook("with accumulate_grad_batches='auto', which exchanges gradients behind a step")
        # Without a wrapper backward exchanges nothing, and `gradient_sync` has nothing to switch off.
        self._wrapped = self._automatic = None
        return module.training_step

    def gradient_sync(self, *, enabled: bool) -> AbstractContextManager[None]:
        if self._automatic is None:
            return NO_CONTEXT if enabled else self._holding_back()
        if self._adopt_new_tensors(self._automatic) or self._trained() != self._wrapped_trained:
            # A callback has frozen, unfrozen or added layers, and DDP exchanges the parameters that were trained when
            # it was made. What was gathered so far in this group is averaged first; averaging an average changes
            # nothing.
            self._gradients.average(self._parameters)
            self._wrap(self._automatic)
        if self._wrapped is None:
            return NO_CONTEXT
        # With `static_graph`, DDP fails an assertion if the first step is under `no_sync`.
        first_of_static = self.static_graph and not self._synced_once
        self._synced_once = True
        return self._exchange if enabled or first_of_static else self._wrapped.no_sync()

    def sync_gradients(self, module: nn.Module) -> None:
        if self.is_distributed:
            self._gradients.average([each for each in module.parameters() if each.requires_grad])

    def _automatic_step(self, *arguments: Any) -> Any:
        try:
            # The attribute is read at each call: `gradient_sync` may wrap the module anew in the middle of a fit.
            return self._forward(*arguments)  # type: ignore[misc]  # `_wrap` has set it
        except RuntimeError as error:
            unused = _UNUSED.search(str(error))
            if unused is None or self._automatic is None:
                raise
            trained = [name for name, each in self._automatic.named_parameters() if each.requires_grad]
            names = ", ".join(trained[int(index)] for index in unused[1].split())
            raise ModuleError(
                f"on rank {self.rank} these parameters took no part in the loss of the batch before: {names}. The "
                "ranks wait for the gradient of every parameter that is trained.\n"
                "    to do        use all of them in training_step, freeze them by requires_grad_(False), or say\n"
                "                 Trainer(strategy='ddp_find_unused_parameters_true'), which looks at each step"
            ) from error

    def _manual_step(self, module: TrainModule) -> Callable[..., Any]:
        """Return a step ahead of which layers that were added are made equal; nothing else is done around it."""

        def step(*arguments: Any) -> Any:
            self._adopt_new_tensors(module)
            return module.training_step(*arguments)

        return step

    @contextmanager
    def _holding_back(self) -> Iterator[None]:
        """The context of a manual backward after which nothing is exchanged."""
        self.holds_back_gradients = True
        try:
            yield
        finally:
            self.holds_back_gradients = False

    def _end_exchange(self) -> None:
        """Behind a backward in which gradients were exchanged, exchange those that it has left."""
        if self._toggled:
            self._toggled = False
            self._gradients.average(self._parameters)
            assert self._wrapped is not None, "it has noticed the toggle"
            self._wrapped.require_backward_grad_sync = True

    def _look_for_toggles(self) -> None:
        """Leave the exchange to `_end_exchange` if the step that ends has switched ``requires_grad`` of a parameter."""
        # Of what was switched off, torch would wait for a gradient, and of what was switched on it knows nothing. It
        # reads the attribute when the step has returned.
        if self._wrapped is not None and self._wrapped.require_backward_grad_sync:
            self._toggled = self._trained() != self._wrapped_trained
            if self._toggled:  # to set an attribute of a module takes as long as all the rest here
                self._wrapped.require_backward_grad_sync = False

    def _trained(self) -> list[bool]:
        """Return of each parameter whether it is trained now."""
        return [parameter.requires_grad for parameter in self._parameters]

    def sync_buffers(self, module: nn.Module) -> None:
        if self.is_distributed:
            broadcast(each for each in module.buffers() if not is_read_only(each))

    def resume_group(self) -> None:
        # DDP gives all ranks the buffers of rank 0 ahead of a step, but not between two that exchange nothing.
        if self._wrapped is not None:
            self._wrapped.require_forward_param_sync = False

    def _adopt_new_tensors(self, module: nn.Module) -> bool:
        """Make what ``module`` has got since it was wrapped equal on all ranks; return whether there is any."""
        new = self._new_tensors.take(module)
        if new:
            refuse_different_modules(self, module)
            broadcast(new)
        return bool(new)

    def _wrap(self, module: TrainModule) -> None:
        self._wrapped = None  # the old wrapper goes first, and takes its hooks off the parameters
        self._forward = module.training_step
        self._parameters = list(module.parameters())
        self._wrapped_trained = self._trained()
        self._synced_once = False
        if not any(self._wrapped_trained):
            return  # DDP refuses such a module; a callback may thaw it later
        self._own_sparse_gradients(module)
        buffers: dict[str, Any] = {} if self.broadcast_buffers else {_SYNCS_BUFFERS: False}
        self._forward = self._wrapped = DistributedDataParallel(
            _StepAsForward(module, self._look_for_toggles),
            find_unused_parameters=self.find_unused_parameters,
            static_graph=self.static_graph,
            gradient_as_bucket_view=self.gradient_as_bucket_view,
            bucket_cap_mb=self.bucket_cap_mb,
            init_sync=False,  # `wrap` has made the ranks equal
            **buffers,
        )

        if self.comm_hook is not None:
            try:
                self._wrapped.register_comm_hook(self.comm_state, self.comm_hook)
            except Exception as error:  # of many types; torch looks at its arguments, and what this build can do
                raise ConfigError(f"DDP(comm_hook={_name(self.comm_hook)}) cannot be used here: {error}") from error

    def _refuse_hook(self, why: str) -> None:
        if self.comm_hook is not None:
            raise ConfigError(f"DDP(comm_hook={_name(self.comm_hook)}) cannot be used {why}. Leave it out.")

    def _own_sparse_gradients(self, module: TrainModule) -> None:
        """Let sparse gradients of embeddings have values of their own."""
        # They share them with the gradient of the embedding's output, which DDP would divide with them by the number of
        # ranks before it has gone on to the layers below: those would get half of theirs.
        while self._handles:
            self._handles.pop().remove()
        for layer in module.modules():
            if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.sparse and layer.weight.requires_grad:
                self._handles.append(layer.weight.register_hook(torch.clone))  # type: ignore[no-untyped-call]  # torch's

    def waits_in_backward(self) -> bool:
        return self._wrapped is not None and self._wrapped.require_backward_grad_sync

    def teardown(self) -> None:
        # DDP holds on to the group, so it goes first.
        self._wrapped = self._forward = None
        self._new_tensors.close()
        while self._handles:
            self._handles.pop().remove()
        # Several ranks keep theirs until the program ends: a checkpoint may be saved when a call is over.
        if not self.is_distributed:
            end_default_group()


def _check_hook(comm_hook: Any, comm_state: Any) -> None:
    if comm_hook is not None and not callable(comm_hook):
        raise ConfigError(f"DDP: comm_hook={comm_hook!r} must be a function (comm_state, bucket) -> future, or None.")
    if comm_hook is None and comm_state is not None:
        raise ConfigError(f"DDP: comm_state={type(comm_state).__name__}(...) is for a comm_hook, and there is none.")


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


class _Exchange(AbstractContextManager[None]):
    """The context of a backward in which gradients are exchanged; one for all steps, which costs them less."""

    def __init__(self, at_end: Callable[[], None]) -> None:
        self._at_end = at_end

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._at_end()


class _StepAsForward(nn.Module):
    """A module whose ``forward`` is ``training_step``, as DDP exchanges gradients only for what runs in ``forward``."""

    def __init__(self, module: TrainModule, at_end: Callable[[], None]) -> None:
        super().__init__()
        self.module = module
        self.at_end = at_end

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.module.training_step(*args, **kwargs)
        self.at_end()
        return output
