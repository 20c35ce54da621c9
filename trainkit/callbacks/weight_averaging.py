"""Averaging weights over a fit, so that the average is validated, saved and kept instead of the newest weights."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from trainkit.checks import number
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.module import TrainModule
    from trainkit.trainer import Trainer

PREFIX = "module."
"""Before the names of the averaged weights in ``AveragedModel.state_dict()``; its counter has no prefix."""


class WeightAveraging(Callback):
    """Keeps an average of the weights over a fit: equal weights for every update, unless ``avg_fn`` says otherwise.

    Validation within the fit runs with the average, the module has it when training ends, and a checkpoint holds it as
    ``state_dict``. The newest weights are in the checkpoint as ``current_model_state``, so that a resumed fit continues
    exactly. A subclass may override `should_update`.

    Args:
        device: Where the average is kept; None is where the module is.
        use_buffers: Whether buffers, such as the statistics of BatchNorm, are averaged too.
        options: Further arguments of ``torch.optim.swa_utils.AveragedModel``, such as ``avg_fn``.
    """

    # The average is in place before the module's own on_validation_epoch_start, and before all plugins that look on.
    stage: ClassVar[PluginStage] = "modify"

    def __init__(
        self, device: torch.device | str | int | None = None, use_buffers: bool = True, **options: Any
    ) -> None:
        self._device = device
        self._options = {"use_buffers": use_buffers, **options}
        self._average: AveragedModel | None = None
        self._saved_average: dict[str, Any] | None = None  # of a checkpoint, until the average is made
        self._is_swapped = False  # whether the module holds the average, and `_average` the newest weights
        self._latest_update_step = 0
        self._latest_update_epoch = -1

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return whether to average now: after the update ``step_idx``, or at the end of the epoch ``epoch_idx``."""
        return step_idx is not None

    def setup(self, stage: Stage) -> None:
        self._average, self._saved_average, self._is_swapped = None, None, False
        self._latest_update_step, self._latest_update_epoch = 0, -1

    def on_load_checkpoint(self, trainer: Trainer, checkpoint: dict[str, Any]) -> None:
        # An evaluation runs with what `state_dict` holds: the average.
        if trainer.state.fn is not Stage.FIT or "current_model_state" not in checkpoint:
            return
        # The Trainer loads `state_dict` into the module after this hook. The average is taken out of it, and the newest
        # weights are put in its place.
        self._saved_average = {f"{PREFIX}{name}": value for name, value in checkpoint["state_dict"].items()}
        self._saved_average |= checkpoint["averaging_state"]
        checkpoint["state_dict"] = checkpoint.pop("current_model_state")

    def on_fit_start(self, module: TrainModule) -> None:
        average = self._create_average(module)
        if self._saved_average is not None:
            # Not before: a copy of a module that is not converted yet would round doubles, and be wider than bfloat16.
            average.load_state_dict(self._saved_average)
            self._saved_average = None
        average.to(module.device if self._device is None else self._device)

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

    def on_validation_epoch_start(self, module: TrainModule) -> None:
        if not self._is_swapped:
            self._swap(module)

    def on_validation_epoch_end(self, module: TrainModule) -> None:
        if self._is_swapped:
            self._swap(module)

    # An exception in a validation comes here instead of to on_validation_epoch_end.
    def on_exception(self, module: TrainModule) -> None:
        if self._is_swapped:
            self._swap(module)

    def on_train_end(self, module: TrainModule) -> None:
        self._load_average(module)

    def on_fit_end(self, module: TrainModule) -> None:
        self._load_average(module)  # on_train_end is not called where a resumed fit has nothing left to train

    def teardown(self) -> None:
        self._average = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._average is None:
            return
        state = self._average.state_dict()
        copy = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
        current = checkpoint["state_dict"]
        # In the middle of a validation each holds the weights of the other.
        checkpoint["state_dict"], checkpoint["current_model_state"] = (
            (current, copy) if self._is_swapped else (copy, current)
        )
        checkpoint["averaging_state"] = {k: value for k, value in state.items() if not k.startswith(PREFIX)}

    def state_dict(self) -> dict[str, Any]:
        """Return the newest update of the average; the average itself is in the checkpoint's ``state_dict``."""
        return {
            "latest_update_step": self._latest_update_step,
            "latest_update_epoch": self._latest_update_epoch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._latest_update_step = state["latest_update_step"]
        self._latest_update_epoch = state.get("latest_update_epoch", -1)

    def _create_average(self, module: TrainModule) -> AveragedModel:
        self._average = AveragedModel(module, **self._options)
        return self._average

    def _update(self, module: TrainModule) -> None:
        if self._average is not None:
            self._average.update_parameters(module)

    def _load_average(self, module: TrainModule) -> None:
        for average, current in self._pairs(module):
            current.copy_(average)

    def _swap(self, module: TrainModule) -> None:
        # In place: optimizers, graphs and wrappers hold these parameters, so they cannot be exchanged themselves.
        pairs = self._pairs(module)
        for average, current in pairs:
            newest = current.clone()
            current.copy_(average)
            average.copy_(newest)
        self._is_swapped = bool(pairs) and not self._is_swapped

    def _pairs(self, module: TrainModule) -> list[tuple[torch.Tensor, torch.Tensor]]:
        if self._average is None:
            return []
        # Buffers as well: they are averaged too, or AveragedModel copied them at its newest update.
        copy = self._average.module
        averages, currents = chain(copy.parameters(), copy.buffers()), chain(module.parameters(), module.buffers())
        return [(average.detach(), current.detach()) for average, current in zip(averages, currents, strict=True)]


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
        ConfigError: If ``decay`` is not between 0 and 1.
    """

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
        self.update_every_n_steps = update_every_n_steps
        self.update_starting_at_step = update_starting_at_step
        self.update_starting_at_epoch = update_starting_at_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        if step_idx is not None:
            return step_idx >= (self.update_starting_at_step or 0) and step_idx % self.update_every_n_steps == 0
        first = self.update_starting_at_epoch
        return first is not None and epoch_idx is not None and epoch_idx >= first
