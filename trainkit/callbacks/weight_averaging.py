"""Averaging weights over a fit, so that the average is validated, saved and kept instead of the newest weights."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NotRequired, TypedDict

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from trainkit.checkpoint.averages import AVERAGE, AVERAGING_STATE, NEWEST, warn_of_lost_numbers
from trainkit.checks import flags, named_device, number, takes_numpy, whole
from trainkit.errors import StateError
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage
from trainkit.hooks.specs import hookimpl
from trainkit.module.from_checkpoint import load_weights
from trainkit.module.shards import bare_copy, is_sharded
from trainkit.module.writable import make_writable
from trainkit.storage.schema import Count, Like, takes
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.module import TrainModule
    from trainkit.trainer import Trainer


class _State(TypedDict):
    """An average, where there is one already."""

    latest_update_step: Count
    latest_update_epoch: NotRequired[int]
    average: NotRequired[dict[str, Tensor]]
    n_averaged: NotRequired[Count | Annotated[Tensor, Like(0, torch.int64)]]


class WeightAveraging(Callback):
    """Keeps an average of the weights over a fit: equal weights for every update, unless ``avg_fn`` says otherwise.

    Each hook of a validation within the fit sees the average, the module has it when training ends, and a checkpoint
    holds it as ``state_dict``. The newest weights are in the checkpoint as ``current_model_state``, so that a resumed
    fit continues exactly. An ``on_load_checkpoint`` that changes ``state_dict`` reaches both: a fit calls it for each.
    Of several in one run, the last one is validated, saved and kept like this; the others go on beside it.
    A subclass may override `should_update`.

    Args:
        device: Where the average is kept; None is where the module is.
        use_buffers: Whether buffers, such as the statistics of BatchNorm, are averaged too.
        options: Further arguments of ``torch.optim.swa_utils.AveragedModel``, such as ``avg_fn``.
    """

    # The average is in place before all plugins that look on, such as those that save.
    stage: ClassVar[PluginStage] = "modify"

    _latest_update_step: int
    _latest_update_epoch: int
    _trained: TrainModule | None
    _average: AveragedModel | None
    _is_swapped: bool  # whether the module holds the average, and `_average` the newest weights
    _loaded: dict[str, Any] | None  # the average of a checkpoint, until the module is ready for it

    @takes_numpy
    def __init__(
        self, device: torch.device | str | int | None = None, use_buffers: bool = True, **options: Any
    ) -> None:
        flags(type(self).__name__, use_buffers=use_buffers)
        named_device(type(self).__name__, device)
        self._device = device
        self._options = {"use_buffers": use_buffers, **options}
        self._forget()

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return whether to average now: after the update ``step_idx``, or at the end of the epoch ``epoch_idx``."""
        return step_idx is not None

    def setup(self, stage: Stage) -> None:
        # Not after a fit: its checkpoint may still be saved by hand.
        if stage is Stage.FIT:
            self._forget()

    def on_fit_start(self, module: TrainModule) -> None:
        # Not before: the module may have been converted to another dtype, or been without memory, until now.
        make_writable(module)
        # Of a sharded module each rank averages its part.
        is_dealt = any(map(is_sharded, module.parameters()))
        average = AveragedModel(bare_copy(module) if is_dealt else module, **self._options)
        average.to(module.device if self._device is None else self._device)
        if self._loaded is not None:
            weights, source = self._loaded[AVERAGE], "the average of the checkpoint"
            load_weights(average.module, weights, strict=module.strict_loading, source=source)
            warn_of_lost_numbers(average.module.state_dict(), module.state_dict())
            average.n_averaged.copy_(self._loaded["n_averaged"])
        self._trained, self._average, self._loaded = module, average, None

    def on_train_batch_end(self, trainer: Trainer, module: TrainModule) -> None:
        step = trainer.global_step
        # Without a new update (accumulation, a skipped batch) the same weights must not be averaged twice.
        if step > self._latest_update_step and self.should_update(step_idx=step - 1):
            self._update(module)
            self._latest_update_step = step

    def on_train_epoch_end(self, trainer: Trainer, module: TrainModule) -> None:
        epoch = trainer.current_epoch
        if epoch > self._latest_update_epoch and self.should_update(epoch_idx=epoch):
            self._update(module)
            self._latest_update_epoch = epoch

    # Around all other plugins, so that each of their hooks of a validation sees the average.
    @hookimpl(wrapper=True, tryfirst=True)
    def on_validation_start(self, trainer: Trainer) -> Generator[None, Any, Any]:
        if trainer.state.fn is Stage.FIT and self._is_used(trainer):
            self._hold_average(True)
        return (yield)

    @hookimpl(wrapper=True, tryfirst=True)
    def on_validation_end(self, trainer: Trainer) -> Generator[None, Any, Any]:
        result = yield
        if trainer.state.fn is Stage.FIT:
            self._hold_average(False)
        return result

    # An exception in a validation comes here instead of to on_validation_end.
    def on_exception(self, trainer: Trainer) -> None:
        if trainer.state.fn is Stage.FIT:
            self._hold_average(False)

    def on_train_end(self, trainer: Trainer) -> None:
        self._leave_average(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        # on_train_end is not called where a resumed fit has nothing left to train
        self._leave_average(trainer)

    def on_save_checkpoint(self, trainer: Trainer, checkpoint: dict[str, Any]) -> None:
        # After an evaluation the weights may be others; what a fit can continue from has those of the fit.
        is_resumable = "callbacks" in checkpoint
        if self._average is None or not self._is_used(trainer) or not (is_resumable or trainer.state.fn is Stage.FIT):
            return
        held, other = checkpoint["state_dict"], trainer.strategy.stored(dict(self._average.module.state_dict()))
        average, newest = (held, other) if self._is_swapped else (other, held)
        checkpoint["state_dict"] = average
        if is_resumable:
            # Where the optimizer has modes, the newest are there already: those with which training goes on.
            checkpoint.setdefault(NEWEST, newest)
            checkpoint[AVERAGING_STATE] = {"n_averaged": self._average.n_averaged}

    def state_dict(self) -> dict[str, Any]:
        """Return the average, and how often and when it was updated."""
        newest_update = {
            "latest_update_step": self._latest_update_step,
            "latest_update_epoch": self._latest_update_epoch,
        }
        if self._average is None or self._trained is None:
            return newest_update | (self._loaded or {})
        # Where the average is the checkpoint's ``state_dict`` too, both are one in the file: their memory is the same.
        holder = self._trained if self._is_swapped else self._average.module
        return newest_update | {AVERAGE: dict(holder.state_dict()), "n_averaged": self._average.n_averaged}

    @takes(_State)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        if AVERAGE in state and ("n_averaged" not in state or state["n_averaged"] < 0):
            raise StateError("there is no n_averaged, of how many weights the average is")
        self._latest_update_step = state["latest_update_step"]
        self._latest_update_epoch = state.get("latest_update_epoch", -1)
        self._loaded = {name: state[name] for name in (AVERAGE, "n_averaged")} if AVERAGE in state else None

    def _forget(self) -> None:
        self._trained = self._average = self._loaded = None
        self._is_swapped = False
        self._latest_update_step = 0
        self._latest_update_epoch = -1

    def _is_used(self, trainer: Trainer) -> bool:
        """Whether it is this average that the run is evaluated with: that of the last such callback."""
        averages = [plugin for _, plugin in trainer.hooks.plugins if isinstance(plugin, WeightAveraging)]
        return averages[-1] is self

    def _update(self, module: TrainModule) -> None:
        if self._average is not None:
            self._average.update_parameters(module)

    def _leave_average(self, trainer: Trainer) -> None:
        """Let the module hold the average when the fit is over, and equal buffers on all ranks, as it is saved."""
        was_swapped = self._is_swapped
        self._hold_average(self._is_used(trainer))
        if self._is_swapped and not was_swapped and self._trained is not None:
            trainer.strategy.sync_buffers(self._trained)

    def _hold_average(self, hold: bool) -> None:
        """Let the module hold the average, and this callback the newest weights; or the other way round."""
        if self._average is None or self._trained is None or hold == self._is_swapped:
            return
        # In place: optimizers, graphs and wrappers hold these parameters, so they cannot be exchanged themselves.
        for average, current in zip(_tensors(self._average.module), _tensors(self._trained), strict=True):
            newest = current.clone()
            current.copy_(average)
            average.copy_(newest)
        self._is_swapped = hold


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    # Buffers as well: they are averaged too, or AveragedModel copied them at its newest update.
    return (tensor.detach() for tensor in chain(module.parameters(), module.buffers()))


class EMAWeightAveraging(WeightAveraging):
    """Keeps an exponential moving average of the weights.

    Args:
        device: Where the average is kept; None is where the module is.
        use_buffers: Whether buffers are averaged too.
        decay: The share of the average that stays at each update.
        update_every_n_steps: Average after every n-th optimizer step.
        update_starting_at_step: The first optimizer step (counted from 0) to average after; None is the first of all.
        update_starting_at_epoch: The first epoch at whose end to average, as at every later one; None never does.
        options: Further arguments of ``torch.optim.swa_utils.AveragedModel``.

    Raises:
        ConfigError: If ``decay`` is not between 0 and 1, or another argument is not usable.
    """

    @takes_numpy
    def __init__(
        self,
        device: torch.device | str | int | None = None,
        use_buffers: bool = True,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
        update_starting_at_epoch: int | None = None,
        **options: Any,
    ) -> None:
        number("decay", decay, at_least=0, at_most=1, where="EMAWeightAveraging")
        super().__init__(device, use_buffers, avg_fn=get_ema_avg_fn(decay), **options)  # type: ignore[no-untyped-call]
        where = "EMAWeightAveraging"
        whole("update_every_n_steps", update_every_n_steps, at_least=1, where=where)
        whole("update_starting_at_step", update_starting_at_step, optional=True, where=where)
        whole("update_starting_at_epoch", update_starting_at_epoch, optional=True, where=where)
        self.decay = decay
        self.update_every_n_steps = update_every_n_steps
        self.update_starting_at_step = update_starting_at_step
        self.update_starting_at_epoch = update_starting_at_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        if step_idx is not None:
            return step_idx >= (self.update_starting_at_step or 0) and step_idx % self.update_every_n_steps == 0
        first = self.update_starting_at_epoch
        return first is not None and epoch_idx is not None and epoch_idx >= first
