"""One call of a Trainer, from its preparation to its teardown: what happens around a loop."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import torch

from trainkit.callbacks.builtin.fit_report import report_of
from trainkit.checkpoint.averages import load_newest
from trainkit.checkpoint.locate import Located, locate_checkpoint
from trainkit.checkpoint.migrate import migrate
from trainkit.data.fit_loaders import FitLoaders
from trainkit.data.module import DataModule
from trainkit.data.resume.other_data import Resume
from trainkit.data.wait_meter import WaitMeter
from trainkit.errors import NotAttachedError, note_on
from trainkit.hooks.attribution import in_one_line
from trainkit.loggers.logger import LOGGED, loggers_of
from trainkit.loops.run import FitRun, Run
from trainkit.loops.stop import StopSignal
from trainkit.module import TrainModule
from trainkit.module.attached import attach
from trainkit.module.from_checkpoint import load_weights, require_weights
from trainkit.output import begin_telling, say, warn
from trainkit.printable import printable
from trainkit.progress import Progress
from trainkit.reflection import is_ours, method_of
from trainkit.storage.files import read_checkpoint
from trainkit.storage.owners import given_to
from trainkit.trainer.advice import advise
from trainkit.trainer.build_run import build_evaluation_run, build_fit_run
from trainkit.trainer.data import LOADER_OF_STAGE, DataConnection, Rank
from trainkit.trainer.default_plugins import checkpoints_last
from trainkit.trainer.drawn_alike import drawn_alike
from trainkit.trainer.loader_source import LoaderName
from trainkit.trainer.loss_shapes import named_error, one_shape_for_labels
from trainkit.trainer.place_module import place_module
from trainkit.trainer.run_length import begin_or_say_done
from trainkit.trainer.run_state import check_storable_state, restore, restore_beginning
from trainkit.trainer.same_data import warn_of_other_data
from trainkit.trainer.tables import print_timing
from trainkit.trainer.torch_flags import torch_flags
from trainkit.types import Phase, Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

Status = Literal["initializing", "running", "finished", "interrupted"]


class Call:
    """One call of ``fit``, ``validate``, ``test`` or ``predict``, and all that exists for its time only.

    The Trainer has what outlives a call: its arguments and parts, the counters of its fits, and its newest call.

    Args:
        trainer: Whose call it is.
        stage: What is to be done.
        module: What to run.
        loaders: The loaders that were passed, by what they are for.
        datamodule: The data module that was passed.
        ckpt_path: Where to start from: a path, "last", "best", or None.
        last_fit: The newest fit of the Trainer, if there was one.
        take: Of what a fit that goes on uses the code's value, and not the checkpoint's.
        resume: How a fit goes on in the middle of an epoch.

    Attributes:
        stage: The same.
        module: The same.
        strategy: Where and how the module runs.
        precision: In which dtypes it computes.
        metrics: What is logged.
        arguments: The arguments of the Trainer.
        registry: All plugins, in which those of this call come and go.
        hooks: The hooks as the loops call them.
        callbacks: The Trainer's callbacks, with those of the module.
        progress: The counters; those of the checkpoint in an evaluation that starts from one.
        state: How far the call has come.
        stop_signal: Who has asked it to stop.
        ckpt_path: The checkpoint it was started from.
        continues_last: Whether that was found by "last", so that the run goes on in its folder.
        fit_of_weights: The fit whose optimizers and counters belong to the weights there are: this one, or the last one
            before an evaluation; None if the weights came from elsewhere since.
    """

    def __init__(
        self,
        trainer: Trainer,
        stage: Stage,
        module: TrainModule,
        loaders: Mapping[LoaderName, Any],
        datamodule: DataModule | None,
        ckpt_path: str | os.PathLike[str] | None,
        last_fit: Call | None,
        take: str | Sequence[str] = (),
        resume: Resume = "exact",
    ) -> None:
        self.stage = stage
        self.module = module
        self.strategy = trainer.strategy
        self.precision = trainer.precision
        self.metrics = trainer.metrics
        self.arguments = trainer.arguments
        self.registry = trainer.hooks
        self.hooks = trainer.hooks.hooks
        self.callbacks = trainer.callbacks
        self.progress = trainer.progress
        self.state = TrainerState("running", stage, self)
        self.stop_signal = StopSignal()
        self.ckpt_path: str | None = None
        self.continues_last = False
        self.fit_of_weights = last_fit
        self._trainer = trainer
        self._loaders = loaders
        self._datamodule = datamodule
        self._ckpt_path = ckpt_path
        self._take = take
        self._resume = resume
        self._data: DataConnection | None = None
        self._run: Run | None = None
        self._joined: list[object] = []
        self._has_ended = False
        self._has_changed_state = False

    # What it has come to

    @property
    def is_running(self) -> bool:
        """Whether it has not ended: its hooks, `on_exception` and `teardown` among them, may still be called."""
        return not self._has_ended

    @property
    def is_prepared(self) -> bool:
        """Whether it has come as far as to have a `run`."""
        return self._run is not None

    @property
    def has_changed_state(self) -> bool:
        """Whether weights or counters may be others than before the call."""
        return self._has_changed_state

    @property
    def has_data(self) -> bool:
        """Whether it has come as far as to have its `data`."""
        return self._data is not None

    @property
    def phase(self) -> Phase | None:
        """What is running right now; until a loop runs, what has been asked for; None when the call has ended."""
        if self.state.status != "running":
            return None
        if self._run is None:
            return Phase.TRAIN if self.stage is Stage.FIT else Phase(self.stage.value)
        return self._run.phase

    @property
    def run(self) -> Run:
        """All that a loop needs.

        Raises:
            NotAttachedError: Before it is built, at the end of the preparation.
        """
        if self._run is None:
            raise NotAttachedError(f"trainer.{self.stage}() is being prepared; there is a run from its first hook on.")
        return self._run

    @property
    def fit_run(self) -> FitRun:
        """All that training needs.

        Raises:
            NotAttachedError: If this is no fit, or before it is built.
        """
        run = self.run
        if not isinstance(run, FitRun):
            raise NotAttachedError(f"trainer.{self.stage}() does not train, so it has no optimizers and no limits.")
        return run

    @property
    def data(self) -> DataConnection:
        """The loaders and the data module.

        Raises:
            NotAttachedError: Before the call is connected with them.
        """
        if self._data is None:
            raise NotAttachedError(f"trainer.{self.stage}() is being prepared and has no loaders yet.")
        return self._data

    @property
    def loaders(self) -> FitLoaders:
        """What a fit takes its batches from."""
        return self.data.fit_loaders

    # Its course

    @contextmanager
    def running(self) -> Iterator[Call]:
        """Prepare, let a loop run inside, and tear down, however the loop ends.

        What is undone at the end, the outermost first; what fails there is noted on the error that ended the call::

            status                                      finished or interrupted
              process group                             strategy.teardown
                torch's global flags, filters of warnings
                  module.trainer and module.log
                    callbacks of the module
                      signal handlers, the clock of the fit
                        plugins that joined for the fit
                          hooks.teardown
                            data.teardown
                              preparation and loop
        """
        trainer = self._trainer
        begin_telling()
        with ExitStack() as stack:
            stack.enter_context(self._status())
            self.strategy.setup()
            stack.enter_context(_afterwards(self.strategy.teardown))
            stack.enter_context(torch_flags(self.arguments.optimization))
            stack.enter_context(one_shape_for_labels())
            if self.stage is Stage.FIT:
                # It may have been started in a hook of an evaluation, which is without gradients.
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.enable_grad())
            self.registry.attach(trainer, self.module)
            stack.callback(attach(self.module, trainer, self.metrics))
            self.metrics.reset(self.module)
            stack.enter_context(self._with_callbacks_of_the_module())
            # From here on Ctrl-C is noted, and honoured between two batches.
            stack.enter_context(self.stop_signal.listening(self.strategy))
            # The time between two calls is not time spent training.
            stack.callback(trainer.progress.stop_clock)
            stack.callback(self._stop_watching)
            # From here on plugins hear how the call ends: `on_exception` after an error, and `teardown` always, even if
            # their `setup` was not reached.
            teardown = stack.enter_context(ExitStack())
            teardown.callback(lambda: self.registry.replace(self._joined, []))
            teardown.enter_context(_afterwards(lambda: self.hooks.teardown(self.stage)))
            try:
                checkpoint = self._find_checkpoint()
                data = self._connect_data()
                teardown.enter_context(_afterwards(data.teardown))
                self._prepare(data, checkpoint)
                yield self
                teardown.close()
            except BaseException as raised:
                error = self.stop_signal.instead_of(raised)
                with _noted_on(error):
                    advise(error, self.module, infers=self._run is not None and self._run.inference_mode)
                error = named_error(error)
                # Here too, since plugins read it in `on_exception`.
                self.state.status = "interrupted"
                self._handle(error)
                with _noted_on(error):
                    teardown.close()  # does nothing if closing is what failed: the stack is empty then
                if error is not raised:
                    raise error from raised
                raise
            if self.registry.timing.enabled and self.strategy.is_global_zero:
                print_timing(self.registry.timing)
            if self.stop_signal.received:
                # It came when no batch was to follow. All is done and saved, and the program is still asked to end.
                raise self.stop_signal.exception()

    def join(self, plugins: list[object]) -> None:
        """Let ``plugins`` take part until the call ends."""
        self.registry.replace([], plugins)
        self._joined += plugins

    def _stop_watching(self) -> None:
        if isinstance(self._run, FitRun):
            self._run.gradient_watch.close()

    @contextmanager
    def _status(self) -> Iterator[None]:
        """Note how the call has ended."""
        try:
            yield
            self.state.status = "finished"
        except BaseException:
            self.state.status = "interrupted"
            raise
        finally:
            self._has_ended = True

    @contextmanager
    def _with_callbacks_of_the_module(self) -> Iterator[None]:
        """Add what ``configure_callbacks`` returns for one call; each replaces the Trainer's callbacks of its type."""
        own = method_of(self.module, "configure_callbacks", TrainModule)() or []
        own = list(own) if isinstance(own, Sequence) else [own]
        given = self.callbacks
        kept = [callback for callback in given if not any(type(callback) is type(new) for new in own)]
        replaced = [callback for callback in given if callback not in kept]
        self.registry.replace(replaced, own)
        listed = checkpoints_last([*kept, *own])
        self.callbacks = list(listed)
        try:
            yield
        finally:
            self.registry.replace(own, replaced)
            found, self.callbacks = self.callbacks, given
            if found != listed:
                warn(
                    f"trainer.callbacks was changed during trainer.{self.stage}(), which had no effect. While it "
                    "runs, callbacks join with trainer.hooks.register(callback) and leave with unregister. The list is "
                    "read when a call begins."
                )

    def _find_checkpoint(self) -> dict[str, Any] | None:
        """Find and read the checkpoint to start from; a run that continues the last one goes on in its folder."""
        trainer, asked = self._trainer, self._ckpt_path
        best = getattr(trainer.checkpoint_callback, "best_model_path", None)
        found: list[Located] = []

        def locate() -> str | None:
            roots = trainer.checkpoint_roots
            located = locate_checkpoint(asked, roots=roots, best=best, resumes=self.stage is Stage.FIT)
            found.extend([located] if located else [])
            return located.path if located else None

        # Rank 0 looks, since ranks may see different files; those that did not look read what it found.
        path = self.ckpt_path = self.strategy.agreed(locate)
        self.continues_last = path is not None and asked == "last"
        if path is None:
            return None
        checkpoint = found[0].checkpoint if found else None
        if checkpoint is None:
            checkpoint = read_checkpoint(path, map_location="cpu")
        checkpoint = migrate(checkpoint, path)
        require_weights(checkpoint, path)
        if asked in ("last", "best") and self.strategy.is_global_zero:
            step = f"epoch {checkpoint.get('epoch', '?')}, step {checkpoint.get('global_step', '?')}"
            doing = "continuing" if self.stage is Stage.FIT else self.stage
            say(f"trainkit: {doing} from {printable(path)} ({step})", err=True)
        if self.continues_last:
            for logger in loggers_of(trainer):
                logger.default_to(trainer.default_root_dir)
                logger.continue_run(path, checkpoint.get("trainkit", {}).get(LOGGED, ()))
        return checkpoint

    def _connect_data(self) -> DataConnection:
        rank = Rank(self.strategy.rank, self.strategy.world_size)
        data = DataConnection(self.module, self._datamodule, self._loaders, self.arguments.data, rank, self.stage)
        if self.stage is Stage.FIT and self.strategy.is_global_zero and not self.arguments.output.barebones:
            data.meter = WaitMeter("train_dataloader", self.strategy.device)
        self._data = data
        return data

    def _prepare(self, data: DataConnection, checkpoint: dict[str, Any] | None) -> None:
        """Make everything ready for a loop. The order is a promise to users: ``docs/explanation/loop.md``."""
        trainer, module, strategy = self._trainer, self.module, self.strategy
        if self.fit_of_weights is not None and (checkpoint is not None or self.fit_of_weights.module is not module):
            self.fit_of_weights = None  # its optimizers are not those of the weights there are now
        if self.stage is Stage.FIT:
            # A random split of the data in `setup` has to come out as in the process that began the run.
            restore_beginning(data, checkpoint, self.ckpt_path or "", strategy.rank)
        data.prepare(trainer)
        with drawn_alike(strategy):  # a module may split its data here too
            self.hooks.setup(self.stage)
        method_of(module, "configure_model", TrainModule)()
        if checkpoint is not None:
            # Ahead of the weights, so that a module may rename what an older version of it has saved.
            with given_to(trainer, "the whole", self.ckpt_path or ""):
                if self.stage is Stage.FIT:
                    load_newest(checkpoint, self.hooks.on_load_checkpoint)
                else:
                    self.hooks.on_load_checkpoint(checkpoint)
        # After `setup`, in which the user may have seeded.
        data.shuffle_seed = self._shuffle_seed(checkpoint)
        if self.stage is not Stage.FIT and checkpoint is not None:
            # What is evaluated belongs to that step; the fits of this Trainer keep their own counters.
            self.progress = Progress()
            self.progress.load_state_dict(checkpoint.get("loops", {}).get("fit", {}))
        place_module(module, strategy, self.precision, self.arguments.optimization)
        if checkpoint is not None:
            self._has_changed_state = True
            # Not before: doubles would pass through the float32 of a module that is not converted yet, and one on the
            # meta device has no memory until the strategy gives it some.
            load_weights(
                module,
                checkpoint["state_dict"],
                strict=module.strict_loading,
                source=self.ckpt_path,
                tells=strategy.is_global_zero,
            )
        if self.stage is Stage.FIT:
            self._has_changed_state = True  # counters go back to the beginning of an epoch, or forth to the checkpoint
            self._run = run = build_fit_run(self, data, checkpoint)
            warn_of_other_data(strategy, [data.fit_loaders.train, *data.fit_loaders.val])
            self.fit_of_weights = self
            if checkpoint is not None:
                # Only now, since plugins that get their state back may look at the run.
                restore(run, self.registry.plugins, data, checkpoint, self.ckpt_path or "", self._take, self._resume)
                self.loaders.sanity = []  # it was checked when the run began
            begin_or_say_done(run)
            if trainer.last_checkpoint is not None:
                # Now, and not at the first save hours later.
                check_storable_state(run, self.registry.plugins, data)
        else:
            self._run = build_evaluation_run(self, data)
            warn_of_other_data(strategy, data.evaluation_loaders(LOADER_OF_STAGE[self.stage]))

    def _shuffle_seed(self, checkpoint: dict[str, Any] | None) -> int:
        """Return the seed with which all ranks shuffle: a resumed run keeps the one that it began with."""
        own = (checkpoint or {}).get("trainkit", {})
        seed: int = self.strategy.broadcast_object(own.get("shuffle_seed", torch.initial_seed()))
        return seed

    def _handle(self, error: BaseException) -> None:
        """Save what a signal has interrupted, and let everybody know of ``error``; what fails meanwhile is noted."""
        self.stop_signal.note_exit(error)
        with _noted_on(error):
            self._save_when_stopped()
        # The hook itself notes on the error what plugins raise meanwhile.
        self.hooks.on_exception(error)
        with _noted_on(error):
            if self._data is not None and self._data.datamodule is not None:
                method_of(self._data.datamodule, "on_exception", DataModule)(error)

    def _save_when_stopped(self) -> None:
        """After a signal, save what the loop left whole at a batch boundary, so that nothing is lost."""
        trainer = self._trainer
        keeper = trainer.last_checkpoint
        if self.stage is Stage.FIT and self.stop_signal.honoured and keeper is not None:
            keeper.save(trainer)
            report = report_of(trainer)
            if self.strategy.is_global_zero and not (report and report.tells):
                progress = self.progress
                say(
                    f"trainkit: saved {keeper.path} (epoch {progress.epoch}, step {progress.global_step}); "
                    "ckpt_path='last' continues from there.",
                    err=True,
                )


@dataclass(slots=True)
class TrainerState:
    """What a Trainer is doing. The names are Lightning's: ``fn`` is what trainkit calls a stage, ``stage`` a phase.

    Attributes:
        status: How far the newest call has come.
        fn: What it is or was: fit, validate, test or predict.
        sanity_check_matters: Whether the user's code has asked in the sanity check if it is one: it may log less.
    """

    status: Status = "initializing"
    fn: Stage | None = None
    sanity_check_matters: bool = field(default=False, init=False, repr=False, compare=False)
    _call: Call | None = field(default=None, repr=False, compare=False)

    @property
    def stage(self) -> Phase | None:
        """What is running right now, which within a fit may be training, validation or the sanity check."""
        self.is_sanity_check(asks=sys._getframe(1))
        return None if self._call is None else self._call.phase

    def is_sanity_check(self, asks: FrameType) -> bool:
        """Whether the sanity check is running; that the user's code ``asks`` is noted."""
        is_running = self._call is not None and self._call.phase is Phase.SANITY_CHECK
        self.sanity_check_matters = self.sanity_check_matters or (is_running and not is_ours(asks))
        return is_running

    @property
    def finished(self) -> bool:
        """Whether the last call ended without an exception."""
        return self.status == "finished"

    @property
    def stopped(self) -> bool:
        """Whether no call is running, because it ended in whatever way."""
        return self.status in ("finished", "interrupted")


@contextmanager
def _afterwards(tear_down: Callable[[], object]) -> Iterator[None]:
    """Call ``tear_down`` when what is inside has ended, also with an error, on which another one becomes a note."""
    try:
        yield
    except BaseException as error:
        with _noted_on(error):
            tear_down()
        raise
    tear_down()


@contextmanager
def _noted_on(error: BaseException) -> Iterator[None]:
    """Tidy up after ``error``: what goes wrong meanwhile becomes a note on it, and does not take its place."""
    try:
        yield
    except Exception as another:
        note = f"then, while tearing down: {in_one_line(another)}"
        note_on(error, note)
        if not isinstance(error, Exception):
            # Python prints no notes of what a signal surfaces as, and this may be all that the user ever hears of it.
            say(f"trainkit: {note}", err=True)
