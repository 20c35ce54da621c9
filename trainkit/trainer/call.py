"""One call of a Trainer, from its preparation to its teardown: what happens around a loop."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from trainkit.checkpoint.locate import Located, locate_checkpoint
from trainkit.checkpoint.migrate import migrate
from trainkit.data.module import DataModule
from trainkit.data.wait_meter import WaitMeter
from trainkit.errors import NotAttachedError
from trainkit.hooks.attribution import in_one_line
from trainkit.hooks.dispatch import BoundHooks
from trainkit.loggers.logger import LOGGED
from trainkit.loops.limits import Clock, Limits
from trainkit.loops.run import Run
from trainkit.module import TrainModule
from trainkit.module.from_checkpoint import load_weights, require_weights
from trainkit.progress import Progress
from trainkit.storage.files import read_checkpoint
from trainkit.trainer import bind_steps as parts
from trainkit.trainer import compilation
from trainkit.trainer import default_plugins as plugin_assembly
from trainkit.trainer import run_length as lengths
from trainkit.trainer import run_state as checkpoints
from trainkit.trainer.data import LOADER_OF_STAGE, DataConnection, Rank
from trainkit.trainer.loader_source import LoaderName
from trainkit.trainer.properties import TrainerState
from trainkit.trainer.tables import print_timing
from trainkit.types import Phase, Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

INTERRUPTED = "interrupted.ckpt"


@contextmanager
def session(
    trainer: Trainer,
    stage: Stage,
    module: TrainModule | None,
    loaders: dict[LoaderName, Any],
    datamodule: DataModule | None,
    ckpt_path: str | os.PathLike[str] | None,
) -> Iterator[tuple[Run, BoundHooks]]:
    """Prepare a call of ``trainer`` for ``stage``, run a loop inside, and tear down, however the loop ends.

    Args:
        trainer: Whose call it is.
        stage: What is to be done.
        module: What to run; None is the module of the last call.
        loaders: The loaders that were passed, by what they are for.
        datamodule: The data module that was passed.
        ckpt_path: Where to start from: a path, "last", "best", or None.
    """
    if stage is not Stage.FIT and module is None and ckpt_path is None:
        ckpt_path = _best_of_the_last_fit(trainer, stage)
    _refuse_reentry(trainer, stage)
    module = trainer._module = parts.check_module(trainer._module if module is None else module, stage)
    with ExitStack() as stack:
        stack.enter_context(_status(trainer, stage))
        trainer.strategy.setup()
        stack.enter_context(_afterwards(trainer.strategy.teardown))
        stack.enter_context(parts.torch_flags(trainer._optimisation))
        hooks = trainer._hooks.attach(trainer, module)
        stack.callback(module._attach(trainer, trainer.metrics))
        trainer.metrics.reset()
        stack.enter_context(_module_callbacks(trainer, module))
        stack.enter_context(trainer._stop_signal.listening())
        stack.callback(setattr, trainer, "progress", trainer.progress)
        stack.callback(trainer.progress.stop_clock)
        teardown = stack.enter_context(ExitStack())
        teardown.callback(lambda: trainer._hooks.replace(trainer._fit_plugins, []))
        teardown.enter_context(_afterwards(lambda: hooks.teardown(stage)))
        data = None
        try:
            checkpoint = _find(trainer, stage, ckpt_path)
            rank = Rank(trainer.strategy.rank, trainer.strategy.world_size)
            data = DataConnection(module, datamodule, loaders, trainer._data_use, rank, stage)
            if stage is Stage.FIT and trainer.is_global_zero and not trainer._output.barebones:
                data.meter = WaitMeter("train_dataloader", trainer.strategy.device)
            teardown.enter_context(_afterwards(data.teardown))
            yield _prepare(trainer, stage, module, data, checkpoint, hooks), hooks
            teardown.close()
        except BaseException as error:
            trainer.state.status = "interrupted"
            with noted_on(error):
                _save_when_stopped(trainer, stage)
            hooks.on_exception(error)
            with noted_on(error):
                if data is not None and data.datamodule is not None:
                    data.datamodule.on_exception(error)
            with noted_on(error):
                teardown.close()  # unless that is what failed
            raise
        if trainer._hooks.timing.enabled and trainer.is_global_zero:
            print_timing(trainer._hooks.timing)


@contextmanager
def _status(trainer: Trainer, stage: Stage) -> Iterator[None]:
    """Let ``trainer.state`` say what is done inside, and how it ended."""
    trainer.state = TrainerState("running", stage, trainer)
    trainer.should_stop = False
    trainer._is_busy = True
    try:
        yield
        trainer.state.status = "finished"
    except BaseException:
        trainer.state.status = "interrupted"
        raise
    finally:
        trainer._is_busy = False
        if trainer._run is not None:
            trainer._run.phase = None  # the next call is not yet what this one was


def _prepare(
    trainer: Trainer,
    stage: Stage,
    module: TrainModule,
    data: DataConnection,
    checkpoint: dict[str, Any] | None,
    hooks: BoundHooks,
) -> Run:
    """Make everything ready for a loop. The order is a promise to users: ``docs/explanation/loop.md``."""
    trainer._data = data
    if trainer._fit is not None and (checkpoint is not None or trainer._fit[0].module is not module):
        trainer._fit = None  # its optimizers are not those of the weights there are now
    if stage is Stage.FIT:
        checkpoints.restore_beginning(data, checkpoint, trainer.strategy.rank)
    data.prepare(trainer)
    hooks.setup(stage)
    module.configure_model()
    if checkpoint is not None:
        hooks.on_load_checkpoint(checkpoint)
        load_weights(module, checkpoint["state_dict"], strict=module.strict_loading, source=trainer.ckpt_path)
    data.shuffle_seed = _shuffle_seed(trainer, checkpoint)
    if stage is not Stage.FIT and checkpoint is not None:
        # Until the teardown: what is evaluated belongs to that step, and a fit goes on from where it is.
        trainer.progress = Progress()
        trainer.progress.load_state_dict(checkpoint.get("loops", {}).get("fit", {}))
    trainer.precision.setup(trainer.strategy.device)
    trainer.precision.convert(module)
    if trainer._optimisation.sync_batchnorm and trainer.strategy.is_distributed:
        parts.sync_batchnorm(module)
    if trainer._optimisation.compile is True:
        compilation.compile_layers(module, trainer.strategy)
    trainer.strategy.wrap(module)
    run = trainer._run = Run(
        module=module,
        strategy=trainer.strategy,
        precision=trainer.precision,
        progress=trainer.progress,
        limits=Limits(),
        clock=Clock(trainer.progress),
        metrics=trainer.metrics,
        stop_signal=trainer._stop_signal,
        transfer=data.transfer(trainer.strategy.device, parts.batch_conversion(trainer.precision)),
        inference_mode=trainer._optimisation.inference_mode and stage is not Stage.FIT,
        should_stop=trainer.should_stop,
    )
    if stage is Stage.FIT:
        trainer._fit = run, data
        _prepare_fit(trainer, run, data, checkpoint, hooks)
    else:
        parts.connect_steps(run, Phase(stage.value), len(data.evaluation_loaders(LOADER_OF_STAGE[stage])))
    return run


def _shuffle_seed(trainer: Trainer, checkpoint: dict[str, Any] | None) -> int:
    """Return from what all ranks shuffle alike: a run that goes on keeps the order of its first session."""
    own = (checkpoint or {}).get("trainkit", {})
    seed: int = trainer.strategy.broadcast_object(own.get("shuffle_seed", torch.initial_seed()))
    return seed


def _prepare_fit(
    trainer: Trainer, run: Run, data: DataConnection, checkpoint: dict[str, Any] | None, hooks: BoundHooks
) -> None:
    if checkpoint is not None:
        checkpoints.restore_counters(run, data, checkpoint, trainer.ckpt_path or "")
    if run.progress.epoch_ended:
        run.progress.count_epoch()
    if checkpoint is None:
        run.progress.drop_unfinished()
    run.splits_batches = trainer._optimisation.splits_batches
    run.training_step = parts.training_step(trainer.strategy, run.module, alone=run.splits_batches)
    run.optimizers, run.schedulers = parts.make_optimizers(run.module)
    run.accumulation = trainer._optimisation.accumulation
    parts.connect_optimizers(run, hooks, trainer._optimisation)
    loaders = data.fit_loaders
    run.limits = lengths.make_limits(
        trainer._lengths, trainer._data_use, num_batches=loaders.train.num_batches, validates=bool(loaders.val)
    )
    if loaders.val:
        parts.connect_steps(run, Phase.VALIDATE, len(loaders.val))
    trainer._fit_plugins = plugin_assembly.fit_plugins(run, trainer.callbacks, trainer._optimisation)
    trainer._hooks.replace([], trainer._fit_plugins)
    if checkpoint is not None:
        run.goes_on = True
        checkpoints.restore(run, trainer._hooks.plugins, data, checkpoint, trainer.ckpt_path or "")
        loaders.sanity = []
    if trainer._optimisation.compiles_step:
        run.compile_step = compilation.step_compiler(run, trainer._hooks, trainer._optimisation)
    lengths.say_if_done(run)
    if trainer.checkpoint_callbacks and not trainer.fast_dev_run:
        checkpoints.check(run, trainer._hooks.plugins, data)


def _refuse_reentry(trainer: Trainer, stage: Stage) -> None:
    if trainer._is_busy:
        raise NotAttachedError(
            f"trainer.{stage}() was called while trainer.{trainer.state.fn}() is running. Call it when that has ended, "
            "or let another Trainer do it with a copy of the module."
        )


def _best_of_the_last_fit(trainer: Trainer, stage: Stage) -> str | None:
    """What is evaluated if neither a module nor a checkpoint is given; None is the module as it stands."""
    if trainer.fast_dev_run or not getattr(trainer.checkpoint_callback, "best_model_path", ""):
        return None
    warnings.warn(
        f"trainer.{stage}() was called without a module and uses the best checkpoint of the last fit. To use the "
        f"module as it stands, pass it: trainer.{stage}(module, ...).",
        stacklevel=6,
    )
    return "best"


def _find(trainer: Trainer, stage: Stage, ckpt_path: str | os.PathLike[str] | None) -> dict[str, Any] | None:
    """Find and read the checkpoint to start from; a run that continues the last one goes on in its folder."""
    best = getattr(trainer.checkpoint_callback, "best_model_path", None)
    found: list[Located] = []

    def locate() -> str | None:
        located = locate_checkpoint(ckpt_path, roots=trainer.checkpoint_roots, best=best, resumes=stage is Stage.FIT)
        found.extend([located] if located else [])
        return located.path if located else None

    path = trainer.ckpt_path = trainer.strategy.agreed(locate)
    trainer.continues_last = path is not None and ckpt_path == "last"
    if path is None:
        return None
    checkpoint = found[0].checkpoint if found else None
    if checkpoint is None:
        checkpoint = read_checkpoint(path, map_location="cpu")
    checkpoint = migrate(checkpoint, path)
    require_weights(checkpoint, path)
    if trainer.continues_last:
        # Checkpoints may be elsewhere than in the folder of their run.
        logged = checkpoint.get("trainkit", {}).get(LOGGED, ())
        places = [path, *(os.path.join(entry["folder"], os.path.basename(path)) for entry in logged if entry["folder"])]
        for logger in trainer.loggers:
            any(logger.continue_from(place) for place in places)
    return checkpoint


@contextmanager
def _module_callbacks(trainer: Trainer, module: TrainModule) -> Iterator[None]:
    """Add what ``configure_callbacks`` returns for one call; each replaces the Trainer's callbacks of its type."""
    own = module.configure_callbacks() or []
    own = list(own) if isinstance(own, Sequence) else [own]
    given = trainer.callbacks
    kept = [callback for callback in given if not any(type(callback) is type(new) for new in own)]
    replaced = [callback for callback in given if callback not in kept]
    trainer._hooks.replace(replaced, own)
    trainer.callbacks = plugin_assembly.checkpoints_last([*kept, *own])
    try:
        yield
    finally:
        trainer._hooks.replace(own, replaced)
        trainer.callbacks = given


def _save_when_stopped(trainer: Trainer, stage: Stage) -> None:
    """After a signal, save what the loop left whole at a batch boundary, so that nothing is lost."""
    callback = trainer.checkpoint_callback
    if stage is Stage.FIT and trainer._stop_signal.honoured and callback is not None and not trainer.fast_dev_run:
        trainer.save_checkpoint(os.path.join(callback.dirpath or trainer.log_dir, INTERRUPTED))


@contextmanager
def _afterwards(tear_down: Callable[[], object]) -> Iterator[None]:
    """Call ``tear_down`` when what is inside has ended, also with an error, on which another one becomes a note."""
    try:
        yield
    except BaseException as error:
        with noted_on(error):
            tear_down()
        raise
    tear_down()


@contextmanager
def noted_on(error: BaseException) -> Iterator[None]:
    """Tidy up after ``error``: what goes wrong meanwhile becomes a note on it, and does not take its place."""
    try:
        yield
    except Exception as another:
        error.add_note(f"then, while tearing down: {in_one_line(another)}")
