"""A module and the run it is in: what it reads off its Trainer, and where what it logs goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from trainkit.errors import NotAttachedError
from trainkit.output import print_as_is

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class MetricSink(Protocol):
    """Where the values of `TrainModule.log` go."""

    # A property, so that a method of any signature fits: the arguments by position are more than a type can say.
    @property
    def log(self) -> Callable[..., None]:
        """Record one value. Arguments as in `TrainModule.log`, by position, without those it refuses."""


def attach(module: AttachedModule, trainer: Trainer, metrics: MetricSink) -> Callable[[], None]:
    """Connect ``module``, and every other of its kind inside it, to ``trainer`` and to ``metrics``.

    A function and not a method, since the user's module may have a method of this name.

    Returns:
        A function that disconnects them.
    """
    return module._attach(trainer, metrics)


def log_to(module: AttachedModule, sink: Callable[..., None]) -> None:
    """Send what ``module`` logs to ``sink`` from now on; it is called as `MetricSink.log` is."""
    # Not through torch's ``__setattr__``, which looks for parameters and modules first: this is done at every step.
    vars(module)["_log"] = sink


def sink_of(module: AttachedModule) -> Callable[..., None] | None:
    """Return the function that receives what ``module`` logs; None outside a run."""
    return module._log


class AttachedModule(nn.Module):
    """An ``nn.Module`` that can be connected to a Trainer. What it tells of the run has defaults for outside of one."""

    # Set by `attach`. The Trainer stays readable after the run; nothing can be logged any more.
    _trainer: Trainer | None = None
    _log: Callable[..., None] | None = None
    _untoggled: Mapping[nn.Parameter, bool] | None = None

    @property
    def trainer(self) -> Trainer:
        """The Trainer that runs this module, or ran it last.

        Raises:
            NotAttachedError: Before the first run.
        """
        if self._trainer is None:
            raise NotAttachedError(f"{type(self).__name__} is in no run of a Trainer; trainer.fit(module) starts one.")
        return self._trainer

    @property
    def global_step(self) -> int:
        """Optimizer updates so far; 0 before the first run."""
        return 0 if self._trainer is None else self._trainer.global_step

    @property
    def current_epoch(self) -> int:
        """The index of the running epoch; 0 before the first run."""
        return 0 if self._trainer is None else self._trainer.current_epoch

    @property
    def global_rank(self) -> int:
        """The rank of this process among all; 0 before the first run."""
        return 0 if self._trainer is None else self._trainer.global_rank

    @property
    def local_rank(self) -> int:
        """The rank of this process among those of its machine; 0 before the first run."""
        return 0 if self._trainer is None else self._trainer.strategy.local_rank

    @property
    def logger(self) -> Any:
        """The first logger; None if there is none."""
        return None if self._trainer is None else self._trainer.logger

    @property
    def loggers(self) -> list[Any]:
        """All loggers."""
        return [] if self._trainer is None else list(self._trainer.loggers)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print on rank 0 only."""
        if self._trainer is None or self._trainer.is_global_zero:
            print_as_is(*args, **kwargs)

    def _attach(self, trainer: Trainer, metrics: MetricSink) -> Callable[[], None]:
        """Make ``self.trainer`` and ``self.log`` work, here and in all of its kind inside; see `attach`."""
        # With what each was connected to before: a run may start within another one, with the same module.
        members = [
            (module, module._trainer, module._log) for module in self.modules() if isinstance(module, AttachedModule)
        ]
        for module, _, _ in members:
            module._trainer, module._log = trainer, metrics.log

        def detach() -> None:
            for module, outer_trainer, outer_log in members:
                # After a run its Trainer stays readable, with its metrics. Only where this run was started within
                # another one, the module goes back to that.
                in_outer_run = outer_log is not None
                module._trainer, module._log = (outer_trainer, outer_log) if in_outer_run else (trainer, None)

        return detach

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle is of the module alone. With the Trainer it would take along loaders and open files.
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return {name: value for name, value in state.items() if name not in _RUN_ATTRIBUTES}


_RUN_ATTRIBUTES = frozenset({"_trainer", "_log", "_untoggled"})
"""What a module has for the time of a run only."""
