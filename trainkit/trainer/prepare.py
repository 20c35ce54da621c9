"""What makes a call ready for its loop. The order is a promise to users: ``docs/explanation/loop.md``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from trainkit.checkpoint.averages import load_newest
from trainkit.data.resume.other_data import Resume
from trainkit.module import TrainModule
from trainkit.module.from_checkpoint import load_weights
from trainkit.progress import Progress
from trainkit.reflection import method_of
from trainkit.storage.owners import given_to
from trainkit.strategies.base import Strategy
from trainkit.trainer.build_run import build_evaluation_run, build_fit_run
from trainkit.trainer.data import LOADER_OF_STAGE, DataConnection
from trainkit.trainer.drawn_alike import drawn_alike
from trainkit.trainer.drawn_apart import draw_apart
from trainkit.trainer.kept_batches import KeptBatches
from trainkit.trainer.place_module import place_module
from trainkit.trainer.run_length import begin_or_say_done
from trainkit.trainer.run_state import SAVED_NAMES, check_storable_state, restore, restore_beginning
from trainkit.trainer.same_data import warn_of_other_data
from trainkit.trainer.unreached import warn_of_unreached
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.trainer.call import Call


def prepare(
    call: Call,
    data: DataConnection,
    checkpoint: dict[str, Any] | None,
    take: str | Sequence[str],
    resume: Resume,
) -> None:
    """Make everything ready for a loop, and give ``call`` its run.

    Args:
        call: The call.
        data: Its data.
        checkpoint: What it starts from.
        take: Of what a fit that goes on uses the code's value, and not the checkpoint's.
        resume: How a fit goes on in the middle of an epoch.
    """
    module, strategy = call.module, call.strategy
    if call.fit_of_weights is not None and (checkpoint is not None or call.fit_of_weights.module is not module):
        call.fit_of_weights = None  # its optimizers are not those of the weights there are now
    if call.stage is Stage.FIT:
        # A random split of the data in `setup` has to come out as in the process that began the run.
        restore_beginning(data, checkpoint, call.ckpt_path or "", strategy.rank)
    data.prepare(call.trainer)
    with drawn_alike(strategy):  # a module may split its data here too
        call.hooks.setup(call.stage)
    data.agree(strategy)
    method_of(module, "configure_model", TrainModule)()
    if checkpoint is not None:
        _show_checkpoint(call, checkpoint)
    # After `setup`, in which the user may have seeded.
    data.shuffle_seed = _shuffle_seed(call, checkpoint)
    if call.stage is Stage.FIT:
        names = take.split(",") if isinstance(take, str) else take
        takes_code = "batch_size" in (name.strip() for name in names)
        data.batches = KeptBatches(
            strategy.data_rank,
            strategy.data_world_size,
            checkpoint,
            first_ranks=_first_ranks(strategy),
            takes_code=takes_code,
        )
    if call.stage is not Stage.FIT and checkpoint is not None:
        # What is evaluated belongs to that step; the fits of this Trainer keep their own counters.
        call.progress = Progress()
        call.progress.load_state_dict(checkpoint.get("loops", {}).get("fit", {}))
    place_module(module, strategy, call.precision, call.arguments.optimization)
    if checkpoint is not None:
        call.has_changed_state = True
        # Not before: doubles would pass through the float32 of a module that is not converted yet, and one on the
        # meta device has no memory until the strategy gives it some.
        load_weights(
            module,
            checkpoint["state_dict"],
            strict=module.strict_loading,
            source=call.ckpt_path,
            tells=strategy.is_global_zero,
        )
    if call.stage is Stage.FIT:
        _prepare_fit(call, data, checkpoint, take, resume)
    else:
        call.run = build_evaluation_run(call, data)
        data.share_generators()
        draw_apart(strategy)
        warn_of_other_data(strategy, data.evaluation_loaders(LOADER_OF_STAGE[call.stage]))


def _first_ranks(strategy: Strategy) -> list[int] | None:
    """Return the first of the ranks that have each of the different data; None if each rank has its own."""
    has_own = strategy.data_world_size == strategy.world_size
    return None if has_own else strategy.one_of_each_data(range(strategy.world_size))


def _prepare_fit(
    call: Call,
    data: DataConnection,
    checkpoint: dict[str, Any] | None,
    take: str | Sequence[str],
    resume: Resume,
) -> None:
    """Build the run of a fit, and put it where ``checkpoint`` was saved."""
    call.has_changed_state = True  # counters go back to the beginning of an epoch, or forth to the checkpoint
    call.run = run = build_fit_run(call, data, checkpoint)
    warn_of_other_data(call.strategy, [data.fit_loaders.train, *data.fit_loaders.val])
    call.fit_of_weights = call
    # After all that has to be drawn alike, such as loaders, and ahead of what a checkpoint restores.
    data.share_generators()
    draw_apart(call.strategy)
    if checkpoint is not None:
        # Only now, since plugins that get their state back may look at the run.
        restore(run, call.registry.plugins, data, checkpoint, call.ckpt_path or "", take, resume)
        data.batches.tell(call.strategy, call.loaders.train.loader)
        call.loaders.sanity = []  # it was checked when the run began
    begin_or_say_done(run)
    warn_of_unreached(call.trainer, run, call.began_at[1])
    if call.trainer.last_checkpoint is not None:
        # Now, and not at the first save hours later.
        check_storable_state(run, call.registry.plugins, data)


def _show_checkpoint(call: Call, checkpoint: dict[str, Any]) -> None:
    """Let plugins and the module look at ``checkpoint``, and change it."""
    # Ahead of the weights, so that a module may rename what an older version of it has saved.
    with given_to(call.trainer, "the whole", call.ckpt_path or ""):
        if call.stage is Stage.FIT:
            # Hooks may rename layers in the weights, and not in what else goes by their names.
            checkpoint.get("trainkit", {})[SAVED_NAMES] = [*checkpoint["state_dict"]]
            load_newest(checkpoint, call.hooks.on_load_checkpoint)
        else:
            call.hooks.on_load_checkpoint(checkpoint)


def _shuffle_seed(call: Call, checkpoint: dict[str, Any] | None) -> int:
    """Return the seed with which all ranks shuffle: a resumed run keeps the one that it began with."""
    own = (checkpoint or {}).get("trainkit", {})
    seed: int = call.strategy.broadcast_object(own.get("shuffle_seed", torch.initial_seed()))
    return seed
