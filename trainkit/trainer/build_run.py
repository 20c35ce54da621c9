"""A run, built complete: all that a loop asks, from the parts of a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainkit.hooks.due import DueHook
from trainkit.loops.accumulation import Accumulation
from trainkit.loops.limits import Clock
from trainkit.loops.rows import Rows
from trainkit.loops.run import FitRun, Run
from trainkit.output import warn
from trainkit.precision.base import Precision
from trainkit.reflection import overrides
from trainkit.trainer.bind_optimizers import check_optimizers, make_optimizers, wrapped_step
from trainkit.trainer.bind_steps import evaluation_step, training_step
from trainkit.trainer.compilation import step_compiler
from trainkit.trainer.data import LOADER_OF_STAGE, DataConnection
from trainkit.trainer.default_plugins import fit_plugins
from trainkit.trainer.made_with import describe_run
from trainkit.trainer.run_length import make_limits
from trainkit.trainer.run_state import due_hook, restore_counters
from trainkit.trainer.same_batches import watch_first_batch
from trainkit.types import Batch, Phase

if TYPE_CHECKING:
    from trainkit.trainer.call import Call


def build_evaluation_run(call: Call, data: DataConnection) -> Run:
    """Return what ``validate``, ``test`` or ``predict`` needs; the module is on its device."""
    phase = Phase(call.stage.value)
    num_loaders = len(data.evaluation_loaders(LOADER_OF_STAGE[call.stage]))
    return Run(
        module=call.module,
        strategy=call.strategy,
        precision=call.precision,
        progress=call.progress,
        metrics=call.metrics,
        transfer=data.transfer(call.strategy.device, _conversion(call.precision)),
        evaluation_steps={phase: evaluation_step(call.strategy, call.module, phase, num_loaders)},
        # What gathers a sharded module makes its memory at first use: training could not use that of inference mode.
        inference_mode=call.arguments.optimization.inference_mode and not call.strategy.shards,
        stop_signal=call.stop_signal,
        phase=phase,
    )


def build_fit_run(call: Call, data: DataConnection, checkpoint: dict[str, Any] | None) -> FitRun:
    """Return what ``fit`` needs, with the counters of ``checkpoint``; the module is on its device.

    The order is a promise to users: ``docs/explanation/loop.md``.
    """
    module, strategy, precision, progress = call.module, call.strategy, call.precision, call.progress
    arguments = call.arguments
    # Counters first: loaders may be made for the next epoch, and configure_optimizers may ask for their length.
    due = _set_counters(call, data, checkpoint)
    step = training_step(strategy, module, alone=arguments.optimization.splits_batches)
    optimizers, schedulers = make_optimizers(module)
    check_optimizers(module, optimizers, strategy, arguments.optimization)
    loaders = data.fit_loaders
    limits = make_limits(
        arguments.stop, arguments.data, num_batches=loaders.train.num_batches, validates=bool(loaders.val)
    )
    evaluation_steps = {}
    if loaders.val:
        evaluation_steps[Phase.VALIDATE] = evaluation_step(strategy, module, Phase.VALIDATE, len(loaders.val))

    # Plugins join before the step is compiled, which cannot be done where one listens within it.
    call.join(fit_plugins(module, schedulers, call.callbacks, arguments.optimization))
    compile_step = None
    if arguments.optimization.compiles_step:
        compile_step = step_compiler(module, strategy, precision, optimizers, call.registry, arguments.optimization)
    run = FitRun(
        module=module,
        strategy=strategy,
        precision=precision,
        progress=progress,
        metrics=call.metrics,
        transfer=data.transfer(strategy.device, _conversion(precision)),
        evaluation_steps=evaluation_steps,
        inference_mode=False,  # validation within a fit: what it made would be of no use to training
        stop_signal=call.stop_signal,
        phase=Phase.TRAIN,
        training_step=step,
        optimizers=optimizers,
        schedulers=schedulers,
        step_wrapped=wrapped_step(module, call.hooks),
        accumulation=Accumulation(arguments.optimization.accumulation),
        splits_batches=arguments.optimization.splits_batches,
        limits=limits,
        clock=Clock(progress),
        compile_step=compile_step,
        is_resumed=checkpoint is not None,
        is_tried=bool(arguments.data.fast_dev_run),
        unfinished_hook=due,
        rows=Rows(arguments.output.log_every, progress, strategy),
    )
    if run.is_resumed and strategy.unsaved:
        warn(
            f"the run continues, but not exactly: {strategy.unsaved}, is in no checkpoint, and begins anew. For a run "
            f"that continues bit for bit, leave it out of strategy {strategy.name!r}."
        )
    if arguments.data.use_distributed_sampler:
        watch_first_batch(run, loaders.train.loader)
    # Now, as the code gave it: later schedulers, plugins and the checkpoint change it.
    run.made_with = describe_run(run, data, arguments.optimization, call.registry.plugins)
    return run


def _set_counters(call: Call, data: DataConnection, checkpoint: dict[str, Any] | None) -> DueHook | None:
    """Set the counters to where the fit begins; return the hook within which ``checkpoint`` was saved."""
    progress = call.progress
    if checkpoint is not None:
        restore_counters(progress, call.strategy.rank, data, checkpoint, call.ckpt_path or "")
    due = due_hook(checkpoint, call.registry)
    # The epoch of a checkpoint that was saved in its last hook is over, unless plugins are still to be called in that.
    if progress.epoch_ended and (due is None or due.name != "on_train_epoch_end"):
        progress.count_epoch()
    if checkpoint is None:
        progress.drop_unfinished()
        call.began_at = (progress.epoch, progress.global_step)
    return due


def _conversion(precision: Precision) -> Callable[[Batch], Batch] | None:
    """Return what changes the dtypes of a batch, or None if ``precision`` leaves them as they are."""
    converts = precision.dtype is not None or overrides(precision, "convert_batch", Precision)
    return precision.convert_batch if converts else None
