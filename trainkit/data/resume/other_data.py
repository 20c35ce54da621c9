"""Data that are not those of the run which is to be continued: the error, and the stated ways to go on with them."""

from __future__ import annotations

from typing import Any, Literal

from trainkit.errors import CheckpointError
from trainkit.output import warn

Resume = Literal["exact", "next_epoch", "anyway"]
"""How a run goes on in the middle of an epoch: exactly or not at all, with the next epoch, or with other data too."""

WAYS = (
    "\n    to do        resume with the same data, or say how to go on with other data:"
    '\n                 fit(..., resume="next_epoch") (--resume-data next_epoch) leaves out the rest of the epoch'
    '\n                 fit(..., resume="anyway") (--resume-data anyway) goes on behind the batches that were done'
)
"""What every error of data that differ ends with."""


def other_data(reason: str) -> CheckpointError:
    """Return the error for data with which a run cannot go on exactly; it names the ways that there are."""
    return CheckpointError(reason + WAYS)


def warn_inexact(error: CheckpointError) -> None:
    """Say why a run goes on inexactly, as was asked for."""
    warn(
        f'{str(error).removesuffix(WAYS)} Because of resume="anyway" it goes on at the same place in the epoch, with '
        "what the loader gives now: the run is not exact from here."
    )


def refuse_other_data(name: str, saved: dict[str, Any], **now: Any) -> None:
    """Raise `CheckpointError` unless a loader has the same size as the one in the checkpoint.

    Args:
        name: What errors call the loader.
        saved: The position in the checkpoint.
        now: What has to be equal in it, such as ``samples`` and ``batch_size``, as the loader has it now.
    """
    for what, value in now.items():
        if saved[what] != value:
            raise other_data(
                f"{name} has {what}={value}, and the run that is to be continued had {saved[what]}: in the middle of "
                "an epoch it cannot go on exactly with other data."
            )


def draws_other_samples(name: str) -> CheckpointError:
    """Return the error for a sampler that gives other indices when it is run again."""
    return other_data(
        f"{name} draws other samples than in the run that is to be continued, so it cannot go on exactly in the middle "
        "of its epoch. Its sampler may draw random numbers from somewhere that a checkpoint does not hold (give it a "
        "torch.Generator as `generator`), or it changed."
    )


def gives_other_data(name: str) -> CheckpointError:
    """Return the error for a loader whose samples are others, although their number and order may be the same."""
    return other_data(
        f"{name} gives other data than in the run that is to be continued: it changed, or was made anew, from other "
        "weights or random numbers perhaps."
    )
