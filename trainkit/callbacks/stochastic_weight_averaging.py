"""Stochastic weight averaging: the mean of the weights of the last epochs, which run at a high learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import SWALR

from trainkit.checkpoint.averages import AVERAGE, warn_of_lost_numbers
from trainkit.checkpoint.scheduler_states import check_scheduler_state
from trainkit.checks import function, is_share, is_whole, named_device, one_of, takes_numpy, whole
from trainkit.data.combined import batches_of
from trainkit.errors import ConfigError, OptimizerError, StateError
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage
from trainkit.module.shards import dealt_like
from trainkit.module.weight_names import named_as_in
from trainkit.module.writable import make_writable
from trainkit.storage.schema import Count, takes
from trainkit.storage.tensors import misformed
from trainkit.types import Phase

if TYPE_CHECKING:
    from trainkit.module import TrainModule
    from trainkit.trainer import Trainer

AverageFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


def mean(average: Tensor, newest: Tensor, count: Tensor) -> Tensor:
    """Return the mean over ``count + 1`` weights, given the ``average`` of the first ``count`` and the ``newest``."""
    return average + (newest - average) / (count + 1)


class _State(TypedDict):
    """An average, of how many weights it is, and the scheduler's state."""

    count: Count
    average: dict[str, Tensor]
    scheduler: dict[str, Any] | None


class StochasticWeightAveraging(Callback):
    """Averages the weights at the starts of the last epochs, and replaces the learning-rate schedule in these epochs.

    The module has the average when training ends. The running statistics of its BatchNorm layers belong to other
    weights, so they are computed again in one more pass over the training data.

    Args:
        swa_lrs: The learning rate to anneal to, or one for each parameter group.
        swa_epoch_start: The epoch in which averaging begins, counted from 1; or the share of ``max_epochs`` before it.
        annealing_epochs: Number of epochs over which the learning rate is annealed.
        annealing_strategy: The curve of the annealing: ``"cos"`` or ``"linear"``.
        avg_fn: A function ``(average, newest, count) -> average``; None is the mean.
        device: Where the average is kept; None is where the module is.

    Raises:
        ConfigError: If an argument is not usable.
        OptimizerError: When a fit starts, if there is not one optimizer, or more than one scheduler, or manual
            optimization.

    References:
        Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, UAI 2018.
    """

    stage: ClassVar[PluginStage] = "modify"  # ahead of the module's own hooks, and of plugins that save

    @takes_numpy
    def __init__(
        self,
        swa_lrs: float | list[float],
        swa_epoch_start: int | float = 0.8,
        annealing_epochs: int = 10,
        annealing_strategy: Literal["cos", "linear"] = "cos",
        avg_fn: AverageFunction | None = None,
        device: torch.device | str | int | None = "cpu",
    ) -> None:
        rates = swa_lrs if isinstance(swa_lrs, list) else [swa_lrs]
        if not rates or not all(isinstance(rate, float) and 0 < rate < math.inf for rate in rates):
            raise ConfigError(f"swa_lrs={swa_lrs!r} must be a float above 0, or a list of them.")
        if not is_whole(swa_epoch_start, at_least=1) and not is_share(swa_epoch_start):
            raise ConfigError(f"swa_epoch_start={swa_epoch_start!r} must be an epoch from 1 on, or a share (float).")
        whole("annealing_epochs", annealing_epochs, where="StochasticWeightAveraging")
        function("StochasticWeightAveraging", optional=True, avg_fn=avg_fn)
        one_of("annealing_strategy", annealing_strategy, ("cos", "linear"))
        self.swa_lrs = swa_lrs
        self.swa_epoch_start = swa_epoch_start
        self.annealing_epochs = annealing_epochs
        self.annealing_strategy: Literal["cos", "linear"] = annealing_strategy
        self._avg_fn = avg_fn or mean
        named_device("StochasticWeightAveraging", device)
        self._device = device
        self._trainer: Trainer | None = None
        self._trained: TrainModule | None = None
        self._count = 0
        self._average: dict[str, Tensor] = {}
        self._scheduler: SWALR | None = None

    def setup(self, trainer: Trainer, module: TrainModule) -> None:
        self._trainer, self._trained = trainer, module
        self._count, self._average, self._scheduler = 0, {}, None

    # Not in setup: configure_optimizers has not been called there.
    def on_fit_start(self, trainer: Trainer, module: TrainModule) -> None:
        if not module.automatic_optimization:
            raise OptimizerError(
                f"StochasticWeightAveraging sets learning rates, and {type(module).__name__} has "
                "automatic_optimization = False. With manual optimization use torch.optim.swa_utils."
            )
        if len(trainer.optimizers) != 1 or len(trainer.lr_scheduler_configs) > 1:
            raise OptimizerError(
                "StochasticWeightAveraging needs one optimizer and at most one scheduler; configure_optimizers gave "
                f"{len(trainer.optimizers)} and {len(trainer.lr_scheduler_configs)}."
            )
        if isinstance(self.swa_epoch_start, float) and trainer.max_epochs == -1:
            raise ConfigError("swa_epoch_start is a share of max_epochs, which has no limit here. Say an epoch.")

    def on_train_epoch_start(self, trainer: Trainer, module: TrainModule) -> None:
        if trainer.current_epoch < self._first_epoch(trainer):
            return
        if self._scheduler is None:
            self._replace_schedulers(trainer)
        parameters = {name: p.detach().to(self._device or p.device) for name, p in module.named_parameters()}
        if not self._average:
            # `to` does not copy where the device is the same.
            self._average = {name: parameter.clone() for name, parameter in parameters.items()}
            self._count = 0  # a run that was over, and is to train on, has used its average up
        else:
            count = torch.tensor(self._count)
            for name, parameter in parameters.items():
                self._average[name] = self._avg_fn(self._average[name], parameter, count.to(parameter.device))
        self._count += 1

    def on_train_epoch_end(self) -> None:
        if self._scheduler is not None:
            self._scheduler.step()

    def on_train_end(self, trainer: Trainer, module: TrainModule) -> None:
        self._load_average(trainer, module)

    def on_fit_end(self, trainer: Trainer, module: TrainModule) -> None:
        self._load_average(trainer, module)  # on_train_end is not called where a resumed fit has nothing left to train

    def teardown(self) -> None:
        self._trainer = self._trained = None

    def state_dict(self) -> dict[str, Any]:
        """Return the average, the number of weights in it, and the state of the scheduler."""
        scheduler = None if self._scheduler is None else self._scheduler.state_dict()
        return {"count": self._count, AVERAGE: self._average | self._under_other_names(), "scheduler": scheduler}

    @takes(_State)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the scheduler replaces those of the module again.

        Called before the states of schedulers are restored, of which there are none in the checkpoint then.
        """
        if state["count"] and state["scheduler"] is None:
            raise StateError(f"scheduler is None, and begins with the average, of which count is {state['count']}")
        self._count = state["count"]
        average = state[AVERAGE]
        if average and self._trained is not None:
            # Without the buffers and the other names of tied parameters. A new parameter begins as it is.
            average = named_as_in(self._trained.state_dict(), average)
            average = {
                name: dealt_like(average[name], p) if name in average else p.detach().clone()
                for name, p in self._trained.named_parameters()
            }
            for name, p in self._trained.named_parameters():
                if wrong := misformed(average[name], p.shape, p.dtype, f"average.{name}"):
                    raise StateError(wrong)
            warn_of_lost_numbers(average, dict(self._trained.named_parameters()))
        self._average = {name: value.to(self._device or value.device) for name, value in average.items()}
        if state["scheduler"] is not None and self._trainer is not None:
            scheduler = self._replace_schedulers(self._trainer)
            check_scheduler_state(scheduler, state["scheduler"], "scheduler")
            scheduler.load_state_dict(state["scheduler"])

    def _under_other_names(self) -> dict[str, Tensor]:
        """Return the averages of tied parameters by their further names, by which ``on_load_checkpoint`` finds them."""
        if not self._average or self._trained is None:
            return {}
        names = {id(parameter): name for name, parameter in self._trained.named_parameters()}
        all_names = self._trained.named_parameters(remove_duplicate=False)
        return {name: self._average[names[id(p)]] for name, p in all_names if name not in self._average}

    def _load_average(self, trainer: Trainer, module: TrainModule) -> None:
        # A fit that ended before max_epochs keeps its newest weights.
        if not self._average or trainer.max_epochs not in (-1, trainer.current_epoch):
            return
        make_writable(module)
        for name, parameter in module.named_parameters():
            parameter.detach().copy_(self._average[name])
        self._average = {}  # on_fit_end comes here again after on_train_end
        layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
        if layers:
            _update_batch_norm(trainer, layers)

    def _first_epoch(self, trainer: Trainer) -> int:
        start = self.swa_epoch_start
        # Counted from 1 as in Lightning, and current_epoch from 0.
        return max(0, (int(trainer.max_epochs * start) if isinstance(start, float) else start) - 1)

    def _replace_schedulers(self, trainer: Trainer) -> SWALR:
        """Remove the module's schedulers, and let one of this callback set the learning rate from now on."""
        # In place: the list is that of the run, from which schedulers are stepped and saved.
        trainer.lr_scheduler_configs.clear()
        self._scheduler = SWALR(
            trainer.optimizers[0],
            swa_lr=self.swa_lrs,  # type: ignore[arg-type]  # torch takes a list as well
            anneal_epochs=self.annealing_epochs,
            anneal_strategy=self.annealing_strategy,
        )
        return self._scheduler


def _update_batch_norm(trainer: Trainer, layers: list[_BatchNorm]) -> None:
    """Compute the running statistics of BatchNorm ``layers`` again, in one pass over the training data.

    ``torch.optim.swa_utils.update_bn`` calls ``forward`` with the first item of a batch; here the module's own
    ``training_step`` says what goes through it.
    """
    momenta = {layer: layer.momentum for layer in layers}
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches, not of the newest ones
    run = trainer.fit_run
    limit = None if trainer.num_training_batches == math.inf else int(trainer.num_training_batches)
    # training_step may log, which is no part of the run's metrics.
    with torch.no_grad(), run.metrics.silenced(), run.precision.autocast():
        run.metrics.begin_phase(Phase.TRAIN)
        collected = run.metrics.begin_batches()
        for batch_idx, batch in enumerate(islice(batches_of(trainer.train_dataloader), limit)):
            collected.batch, collected.batch_idx = batch, batch_idx
            batch = collected.batch = run.transfer(batch, 0)
            run.training_step(batch, batch_idx)
    for layer, momentum in momenta.items():
        layer.momentum = momentum
        for mean_of_batches in (layer.running_mean, layer.running_var):
            if mean_of_batches is not None:  # each rank has seen its part of the data
                mean_of_batches.copy_(trainer.strategy.all_reduce(mean_of_batches, "mean"))
