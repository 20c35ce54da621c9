"""How long the loader and a step take, each by itself, in some batches of a fit of which nothing remains.

The fit is one with ``fast_dev_run``, which writes nothing, and ends behind the batches that are timed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from trainkit.callbacks.builtin.fit_report import FitReport
from trainkit.callbacks.model_summary import ModelSummary
from trainkit.callbacks.progress_bar import ProgressBar
from trainkit.callbacks.schedule_preview import SchedulePreview
from trainkit.data.batch_sizes import batch_sizes
from trainkit.data.module import DataModule
from trainkit.errors import ModuleError, TrainkitError
from trainkit.hooks.specs import hookimpl
from trainkit.hooks.timing import TimingRow
from trainkit.module import TrainModule
from trainkit.seed import isolate_rng
from trainkit.trainer.compilation import step_compiler

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

SKIPPED, TIMED = 3, 20
"""How many steps are skipped first, while kernels are chosen and memory is laid out, and how many are timed then."""

LIMIT_S = 3.0
"""For no longer than this batches, or steps, are timed."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What was seen of a fit, by which its speed is judged.

    Attributes:
        trainer: Whose fit it was.
        module: What it has trained.
        loader: Where its batches came from.
        batch_size: The samples of a batch; None if nobody knows.
        batches: The batches of an epoch, infinite if nobody knows. Those of the loader, not of the trial.
        first_s: Seconds until the loader gave its first batch, workers started; None if it cannot be tried.
        load_s: Seconds for each batch of the loader by itself; None if it cannot be tried.
        alone_s: The same without its workers; None if it has none, or cannot be tried.
        step_s: Seconds for each step, plugins included, the device waited for; None if there was no batch.
        plugins: What plugins took in the hooks of a batch.
        steps: How many steps ``plugins`` has seen.
        compiles_step: Whether the whole step could be compiled.
        used_bytes: The memory that the GPU had in use at most; 0 on a CPU.
        total_bytes: The memory that it has; 0 on a CPU.
    """

    trainer: Trainer
    module: TrainModule
    loader: Any = None
    batch_size: int | None = None
    batches: float = float("inf")
    first_s: float | None = None
    load_s: float | None = None
    alone_s: float | None = None
    step_s: float | None = None
    plugins: Sequence[TimingRow] = ()
    steps: int = 0
    compiles_step: bool = False
    used_bytes: int = 0
    total_bytes: int = 0

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a CUDA device."""
        return self.trainer.strategy.device.type == "cuda"

    @property
    def waited(self) -> float:
        """The share of its time that training waits for the loader, from 0 to 1; 0 where that is not known."""
        if not self.load_s or not self.step_s:
            return 0.0
        # Workers load while a step runs. Without them the one comes behind the other.
        if getattr(self.loader, "num_workers", 0):
            return max(0.0, self.load_s - self.step_s) / max(self.load_s, self.step_s)
        return self.load_s / (self.load_s + self.step_s)


def try_fit(trainer: Trainer, module: TrainModule, datamodule: DataModule | None) -> Seen:
    """Train on a few batches, and return what was seen.

    Args:
        trainer: Made with ``fast_dev_run=SKIPPED + TIMED``. It is used up.
        module: What to train. It is used up as well.
        datamodule: Its data.

    Raises:
        TrainkitError: What ``fit`` raises.
        ModuleError: If the run ends the program.
    """
    for _, plugin in list(trainer.hooks.plugins):
        if isinstance(plugin, ProgressBar | ModelSummary | FitReport | SchedulePreview):  # they print
            trainer.hooks.unregister(plugin)
    trial = _Trial(Seen(trainer=trainer, module=module))
    if not trainer.arguments.data.limit_train_batches:  # which fast_dev_run would change
        return trial.seen
    trainer.hooks.register(trial)
    trainer.hooks.timing.enable()
    try:
        trainer.fit(module, datamodule=datamodule)
    except _Enough:
        pass
    except SystemExit as error:
        raise ModuleError(
            f"the run ends the program, by SystemExit({error.code!r})\n    to do        raise an error in its place"
        ) from error
    return trial.seen


class _Enough(BaseException):
    """Ends the trial. No Exception, so that ``except Exception`` in a user's code does not stop it."""


@dataclass(slots=True)
class _Trial:
    """Times the loader when training begins, then the steps, and ends the fit behind them."""

    seen: Seen
    began_s: float = 0.0
    ends_s: float = float("inf")
    steps_s: list[float] = field(default_factory=list)

    @hookimpl(trylast=True)
    def on_train_start(self, trainer: Trainer) -> None:
        seen, loader = self.seen, trainer.train_dataloader
        sizes = batch_sizes(loader, trainer.world_size)
        seen.loader, seen.batch_size = loader, sizes.size if sizes else None
        with suppress(TypeError, NotImplementedError):  # a stream has no length
            seen.batches = len(loader)
        seen.first_s, seen.load_s = _time_loader(loader)
        seen.alone_s = _time_alone(loader)
        if seen.on_gpu:
            torch.cuda.reset_peak_memory_stats(trainer.strategy.device)

    @hookimpl(tryfirst=True)
    def on_train_batch_start(self) -> None:
        self.began_s = self._now()

    @hookimpl(trylast=True)
    def on_train_batch_end(self, trainer: Trainer) -> None:
        now = self._now()
        self.steps_s.append(now - self.began_s)
        if len(self.steps_s) == SKIPPED:  # a first step may be compiled for longer than the rest will take
            self.ends_s = now + LIMIT_S
        if trainer.is_last_batch or len(self.steps_s) >= SKIPPED + TIMED or now > self.ends_s:
            self._finish(trainer)
            raise _Enough

    def _finish(self, trainer: Trainer) -> None:
        seen = self.seen
        timed = self.steps_s[SKIPPED:] or self.steps_s[-1:]
        seen.steps, seen.step_s = len(self.steps_s), sum(timed) / len(timed)
        seen.plugins = [
            row
            for row in trainer.hooks.timing.rows()
            if row.plugin not in (type(self).__name__, type(seen.module).__name__) and row.calls >= seen.steps
        ]
        seen.compiles_step = _compiles_step(trainer, seen.module)
        if seen.on_gpu:
            device = trainer.strategy.device
            seen.used_bytes = torch.cuda.max_memory_reserved(device)
            seen.total_bytes = torch.cuda.get_device_properties(device).total_memory

    def _now(self) -> float:
        # This is a trial: here alone the device is waited for, so that its work counts where it belongs.
        if self.seen.on_gpu:
            torch.cuda.synchronize(self.seen.trainer.strategy.device)
        return time.perf_counter()


def _time_loader(loader: Any) -> tuple[float | None, float | None]:
    """Return the seconds until the first batch of ``loader``, and those for each batch behind it."""
    began = time.perf_counter()
    with isolate_rng():
        iterator = iter(loader)
        if iterator is loader:  # what it gives is gone then, and the fit needs it
            return None, None
        if next(iterator, None) is None:
            return None, None
        first_s = now = time.perf_counter()
        count = 0
        # Workers have some batches ready when the first one comes: enough are taken that these hardly count.
        ahead = getattr(loader, "num_workers", 0) * (getattr(loader, "prefetch_factor", None) or 2)
        for _ in zip(range(TIMED + 2 * ahead), iterator, strict=False):
            count, now = count + 1, time.perf_counter()
            if now - first_s > LIMIT_S:
                break
    return first_s - began, (now - first_s) / count if count else first_s - began


def _time_alone(loader: Any) -> float | None:
    """Return the seconds for each batch without the workers that ``loader`` has."""
    if not isinstance(loader, DataLoader) or not loader.num_workers:
        return None
    # A copy past the constructor, which would ask for arguments that a subclass may not have.
    alone = copy.copy(loader)
    alone.__dict__.update(num_workers=0, prefetch_factor=None, timeout=0, persistent_workers=False, _iterator=None)
    try:
        return _time_loader(alone)[1]
    except Exception:  # of a dataset that needs a worker, say: it is no trial of the run itself
        return None


def _compiles_step(trainer: Trainer, module: TrainModule) -> bool:
    """Whether ``Trainer(compile="step")`` would take the run, asked of what refuses it."""
    try:
        given = replace(trainer.arguments.optimization, compile="step")
        step_compiler(module, trainer.strategy, trainer.precision, trainer.optimizers, trainer.hooks, given)
    except TrainkitError:
        return False
    return True
