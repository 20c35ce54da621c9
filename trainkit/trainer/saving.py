"""What a Trainer saves: the state of the call to which the weights belong that there are now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainkit.errors import CheckpointError, NotAttachedError
from trainkit.hooks.due import running_hook
from trainkit.storage.files import write_checkpoint
from trainkit.storage.layout import check_layout
from trainkit.trainer.call import Call
from trainkit.trainer.run_state import dump, dump_weights

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


def write_newest(
    trainer: Trainer, path: str, *, weights_only: bool, write: Callable[[dict[str, Any], str], None]
) -> None:
    """Let rank 0 ``write`` to ``path`` what the Trainer has to save."""
    try:
        if write is write_checkpoint:  # by hand: files that the state names have to be there when it is read
            for callback in trainer.checkpoint_callbacks:
                callback.finish_write(trainer)
    finally:  # also if one of them could not be written
        checkpoint = trainer.dump_checkpoint(weights_only)
        trainer.strategy.agreed(lambda: write(checkpoint, path))


def dump_newest(trainer: Trainer, call: Call | None, previous: Call | None, *, weights_only: bool) -> dict[str, Any]:
    """Return all from which the fit can go on whose weights these are; where there is none, the weights.

    Args:
        trainer: Whose calls they are.
        call: Its newest call.
        previous: The one before it, while ``call`` is running.
        weights_only: Whether to leave out what only a continued fit needs.

    Raises:
        NotAttachedError: If nothing has run yet.
    """
    keeper, is_changing = trainer.last_checkpoint, False
    if call is not None and not call.is_prepared:
        # While a call is being prepared, what the one before it made is still there.
        is_changing = call.has_changed_state
        call = previous
    if call is None:
        raise NotAttachedError("save_checkpoint() has no module to save before fit, validate, test or predict.")
    fit = call.fit_of_weights
    if weights_only or is_changing or fit is None:
        saved = fit or call
        checkpoint = dump_weights(saved.run, saved.data)
    else:
        # After an evaluation too: the fit whose weights these are can be resumed from here.
        in_loop = fit is call and not trainer.sanity_checking
        # Where this is the newest state that is kept, nobody has anything left to do.
        is_kept = keeper is not None and keeper.is_kept(trainer)
        due = running_hook(trainer.hooks) if in_loop and not is_kept else None
        checkpoint = dump(fit.fit_run, trainer.hooks.plugins, fit.data, due=due)
    if keeper is not None:
        checkpoint["trainkit"] |= {"run": keeper.run, "mark": keeper.mark}
    # What is logged by now is in the checkpoint, and the row of the epoch may be written.
    with trainer.metrics.closed("on_save_checkpoint"):
        trainer.hooks.hooks.on_save_checkpoint(checkpoint)
    try:
        check_layout(checkpoint)
    except CheckpointError as error:
        joined = ", ".join(trainer.hooks.order("on_save_checkpoint"))
        raise CheckpointError(f"{error} on_save_checkpoint is defined by {joined or 'no plugin'}.") from error
    return checkpoint
