"""One call of a Trainer, from its preparation to its teardown: what happens around a loop."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from trainkit.callbacks.builtin.fit_report import report_of
from trainkit.data.fit_loaders import FitLoaders
from trainkit.data.module import DataModule
from trainkit.data.resume.other_data import Resume
from trainkit.data.wait_meter import WaitMeter
from trainkit.errors import NotAttachedError
from trainkit.loops.run import FitRun, Run
from trainkit.loops.stop import StopSignal
from trainkit.module import TrainModule
from trainkit.module.attached import attach
from trainkit.output import begin_telling, say
from trainkit.printable import printable
from trainkit.profilers.base import Profiler
from trainkit.reflection import method_of
from trainkit.trainer.advice import advise
from trainkit.trainer.data import DataConnection, Rank
from trainkit.trainer.loader_source import LoaderName
from trainkit.trainer.loss_shapes import named_error, one_shape_for_labels
from trainkit.trainer.module_callbacks import module_callbacks
from trainkit.trainer.prepare import prepare
from trainkit.trainer.rank_call import taking_part, tell_ranks
from trainkit.trainer.same_run import require_same_run
from trainkit.trainer.starting_checkpoint import continue_loggers, find_checkpoint, read_located
from trainkit.trainer.teardown import afterwards, noted_on
from trainkit.trainer.torch_flags import torch_flags
from trainkit.trainer.trainer_state import TrainerState
from trainkit.types import Phase, Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


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
        trainer: The same.
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
        has_changed_state: Whether weights or counters may be others than before the call.
        began_at: The epochs and updates of earlier fits; none in a fit that is resumed, as that is the earlier one.
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
        self.trainer = trainer
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
        self.has_changed_state = False
        self.began_at = (0, 0)
        self._loaders = loaders
        self._datamodule = datamodule
        self._ckpt_path = ckpt_path
        self._take = take
        self._resume = resume
        self._data: DataConnection | None = None
        self._run: Run | None = None
        self._joined: list[object] = []
        self._has_ended = False

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

    @run.setter
    def run(self, run: Run) -> None:
        self._run = run

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
              process group, for the time of the call   strategy.teardown
                torch's global flags, filters of warnings
                  module.trainer and module.log
                    callbacks of the module
                      signal handlers, the clock of the fit
                        plugins that joined for the fit
                          hooks.teardown
                            data.teardown
                              preparation and loop
        """
        trainer = self.trainer
        begin_telling(self.strategy.rank, self.strategy.world_size)
        with ExitStack() as stack:
            stack.enter_context(self._status())
            stack.enter_context(taking_part(self))
            require_same_run(self)
            stack.enter_context(torch_flags(self.arguments.optimization))
            stack.enter_context(one_shape_for_labels())
            if self.stage is Stage.FIT:
                # It may have been started in a hook of an evaluation, which is without gradients.
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.enable_grad())
            self.registry.attach(trainer, self.module)
            stack.callback(attach(self.module, trainer, self.metrics))
            self.metrics.reset(self.module)
            stack.enter_context(module_callbacks(self))
            # From here on Ctrl-C is noted, and honoured between two batches.
            stack.enter_context(self.stop_signal.listening(self.strategy))
            # The time between two calls is not time spent training.
            stack.callback(trainer.progress.stop_clock)
            stack.callback(self._stop_watching)
            # From here on plugins hear how the call ends: `on_exception` after an error, and `teardown` always, even if
            # their `setup` was not reached.
            teardown = stack.enter_context(ExitStack())
            teardown.callback(lambda: self.registry.replace(self._joined, []))
            teardown.enter_context(afterwards(lambda: self.hooks.teardown(self.stage)))
            try:
                checkpoint = self._find_checkpoint()
                data = self._connect_data()
                teardown.enter_context(afterwards(data.teardown))
                prepare(self, data, checkpoint, self._take, self._resume)
                yield self
                teardown.close()
            except BaseException as raised:
                error = self.strategy.explained(self.stop_signal.instead_of(raised))
                with noted_on(error):
                    advise(error, self.module, infers=self._run is not None and self._run.inference_mode)
                error = named_error(error)
                if not self.stop_signal.honoured:
                    tell_ranks(self, error)
                # Here too, since plugins read it in `on_exception`.
                self.state.status = "interrupted"
                self._handle(error)
                with noted_on(error):
                    teardown.close()  # does nothing if closing is what failed: the stack is empty then
                if error is not raised:
                    raise error from raised
                raise
            self._tell_what_was_measured()
            self._end_where_a_rank_was_asked()

    def _tell_what_was_measured(self) -> None:
        """Let profilers tell what they have found. Every rank has to call this."""
        for profiler in [plugin for _, plugin in self.registry.plugins if isinstance(plugin, Profiler)]:
            profiler.gather(self.trainer)
            if self.strategy.is_global_zero:
                profiler.describe()

    def _end_where_a_rank_was_asked(self) -> None:
        """Raise what a signal surfaces as that came when no batch was to follow, to whichever rank.

        All is done and saved, and the program is still asked to end. A rank that left alone would leave the others
        waiting in what comes next, such as ``trainer.save_checkpoint``.
        """
        signal = self.stop_signal
        if self.strategy.is_distributed:
            signal.received = max(self.strategy.all_gather_object(signal.received))
        if signal.received:
            raise signal.exception()

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

    def _find_checkpoint(self) -> dict[str, Any] | None:
        """Find and read the checkpoint to start from; a run that continues the last one goes on in its folder."""
        trainer, asked = self.trainer, self._ckpt_path
        located = find_checkpoint(trainer, asked, resumes=self.stage is Stage.FIT)
        if located is None:
            return None
        path = self.ckpt_path = located.path
        self.continues_last = asked == "last"
        checkpoint = read_located(located, whole=not self.strategy.shards)
        if asked in ("last", "best") and self.strategy.is_global_zero:
            step = f"epoch {checkpoint.get('epoch', '?')}, step {checkpoint.get('global_step', '?')}"
            doing = "continuing" if self.stage is Stage.FIT else self.stage
            say(f"trainkit: {doing} from {printable(path)} ({step})", err=True)
        if self.continues_last:
            continue_loggers(trainer, path, checkpoint)
        return checkpoint

    def _connect_data(self) -> DataConnection:
        rank = Rank(self.strategy.data_rank, self.strategy.data_world_size)
        data = DataConnection(self.module, self._datamodule, self._loaders, self.arguments.data, rank, self.stage)
        if self.stage is Stage.FIT and self.strategy.is_global_zero and not self.arguments.output.barebones:
            data.meters.append(WaitMeter("train_dataloader", self.strategy.device))
        self._data = data
        return data

    def _handle(self, error: BaseException) -> None:
        """Save what a signal has interrupted, and let everybody know of ``error``; what fails meanwhile is noted."""
        self.stop_signal.note_exit(error)
        with noted_on(error):
            self._save_when_stopped()
        # The hook itself notes on the error what plugins raise meanwhile.
        self.hooks.on_exception(error)
        with noted_on(error):
            if self._run is not None:
                self._run.optimizer_modes.end()
        with noted_on(error):
            if self._data is not None and self._data.datamodule is not None:
                method_of(self._data.datamodule, "on_exception", DataModule)(error)

    def _save_when_stopped(self) -> None:
        """After a signal, save what the loop left whole at a batch boundary, so that nothing is lost."""
        trainer = self.trainer
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
