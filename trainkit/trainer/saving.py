"""What a Trainer saves: the state of the call to which the weights belong that there are now."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from trainkit.checkpoint.background import BackgroundJob, snapshot
from trainkit.checkpoint.sharded_save import save_sharded
from trainkit.errors import CheckpointError, NotAttachedError, note_on
from trainkit.hooks.due import running_hook
from trainkit.storage.files import Content
from trainkit.storage.layout import check_layout
from trainkit.storage.sharded.dtensors import dtensors_in
from trainkit.storage.storable import check_storable
from trainkit.strategies.base import Strategy
from trainkit.trainer.call import Call
from trainkit.trainer.run_state import dump, dump_weights

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


def write_newest(
    trainer: Trainer,
    path: str,
    *,
    weights_only: bool,
    write: Callable[[Content, str], None],
    background: BackgroundJob | None,
    waits_for_writers: bool,
) -> None:
    """Let rank 0 ``write`` to ``path`` what the Trainer has to save. Of what is sharded, each rank writes its part.

    Args:
        trainer: The Trainer.
        path: Where to.
        weights_only: Whether to leave out what only a continued fit needs.
        write: Writes it.
        background: In which it is written, from a copy; None writes it at once.
        waits_for_writers: Whether files that the state names, and that are written in the background, have to be there
            first. Where one could not be written, this one is all the same, and then the error is raised.
    """
    failed = _finish_writers(trainer) if waits_for_writers else []
    try:
        checkpoint = trainer.dump_checkpoint(weights_only)
        _write(trainer.strategy, checkpoint, path, write, background)
    except Exception as error:
        failed.append(error)
    _raise_last(failed)


def _write(
    strategy: Strategy,
    checkpoint: dict[str, Any],
    path: str,
    write: Callable[[Content, str], None],
    background: BackgroundJob | None,
) -> None:
    if dtensors_in(checkpoint):
        save_sharded(checkpoint, path, strategy, lambda whole: write(whole, path), background)
    elif background is None:
        strategy.agreed(lambda: write(checkpoint, path))
    else:
        job = background
        strategy.agreed(lambda: _write_later(job, checkpoint, path, write))


def _write_later(
    background: BackgroundJob, checkpoint: dict[str, Any], path: str, write: Callable[[Content, str], None]
) -> None:
    check_storable(checkpoint)  # an error at once, with the save that caused it, instead of at the next one
    # A snapshot, because training changes weights and optimizer states in place while the thread writes.
    background.start(partial(write, snapshot(checkpoint), path))


def _finish_writers(trainer: Trainer) -> list[Exception]:
    """Wait for what callbacks write in the background; return what went wrong with it."""
    failed: list[Exception] = []
    for callback in trainer.checkpoint_callbacks:
        try:
            callback.finish_write(trainer)
        except Exception as error:
            failed.append(error)
    return failed


def _raise_last(errors: list[Exception]) -> None:
    """Raise the last of ``errors``, with the others as notes."""
    if errors:
        for other in errors[:-1]:
            note_on(errors[-1], f"before that: {other}")
        raise errors[-1]


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
    modes = (fit or call).run.optimizer_modes
    is_eval = modes.is_eval
    with trainer.metrics.closed("on_save_checkpoint"):
        trainer.hooks.hooks.on_save_checkpoint(checkpoint)
    stored: dict[str, Any] = trainer.strategy.stored(checkpoint)  # also what hooks have put into it
    modes.put_back(is_eval=is_eval)  # hooks that were written for other frameworks switch to eval here
    try:
        check_layout(stored)
    except CheckpointError as error:
        joined = ", ".join(trainer.hooks.order("on_save_checkpoint"))
        raise CheckpointError(f"{error} on_save_checkpoint is defined by {joined or 'no plugin'}.") from error
    return stored
