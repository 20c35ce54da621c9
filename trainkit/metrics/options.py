"""The options of ``self.log``: checked, and with every default resolved."""

from __future__ import annotations

import builtins
import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import torch

from trainkit.checks import without_numpy
from trainkit.errors import MetricError, nearest_name
from trainkit.types import Phase

ReduceFx = Literal["mean", "sum", "min", "max"]

Given: TypeAlias = tuple[Any, ...]
"""The options as the caller of ``log`` gave them: the fields of `LogOptions`, in their order, None where left out."""

REDUCTIONS = ("mean", "sum", "min", "max")
# Pairs instead of a dict, because what a user gives by mistake need not be hashable.
_SPELLINGS: tuple[tuple[Any, str], ...] = (
    ("avg", "mean"),
    *((getattr(torch, name), name) for name in REDUCTIONS),
    *((getattr(builtins, name), name) for name in ("sum", "min", "max")),
)


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Where a value goes and how it is reduced.

    Attributes:
        prog_bar: Whether the progress bar shows it.
        logger: Whether it is in the rows that loggers write.
        on_step: Whether the value of each batch is published.
        on_epoch: Whether the value reduced over the phase is published.
        reduce_fx: How the values of a phase are reduced, where a torchmetrics object reduces its own, and those of the
            batches of an accumulated update in its row.
        sync_dist: Whether it is reduced across ranks. None: epoch values are, step values are not.
        add_dataloader_idx: Whether each of several loaders has a value of its own.
        rank_zero_only: Whether rank 0 alone logs it, so that it is never reduced across ranks.
    """

    prog_bar: bool
    logger: bool
    on_step: bool
    on_epoch: bool
    reduce_fx: ReduceFx
    sync_dist: bool | None
    add_dataloader_idx: bool
    rank_zero_only: bool

    @property
    def syncs_epoch(self) -> bool:
        """Whether the value of a phase is reduced over all ranks."""
        return self.sync_dist is not False and not self.rank_zero_only

    @property
    def syncs_step(self) -> bool:
        """Whether the value of a batch is reduced over all ranks."""
        # On request only: it is a collective in every step.
        return self.sync_dist is True and not self.rank_zero_only


NOWHERE = LogOptions(
    prog_bar=False, logger=False, on_step=False, on_epoch=False, reduce_fx="sum", sync_dist=False,
    add_dataloader_idx=False, rank_zero_only=False,
)  # fmt: skip
"""The options of a value that nobody is to see."""


def resolve(name: str, given: Given, phase: Phase, *, in_batch: bool) -> LogOptions:
    """Return the options for ``name``, with a default for each that was not given.

    Args:
        name: The logged name, for messages.
        given: The options that the caller of ``log`` gave.
        phase: The phase that runs.
        in_batch: Whether ``log`` was called for a batch, and not at the start or the end of the phase.

    Raises:
        MetricError: If an option has a value that is not allowed, or is not allowed here.
    """
    options = dict(zip(_FIELDS, without_numpy(given), strict=True))
    _check_flags(name, options)
    if options["on_step"] and not in_batch:
        raise MetricError(
            f"self.log({name!r}, on_step=True) was called outside a batch, where there is no step to log.\n"
            f"    here         at the start or the end of {describe(phase)}\n"
            "    allowed      on_epoch=True, which is the default here\n"
            "    to do        leave on_step out, or log it in the step or in a hook of the batch"
        )
    # As in Lightning: a training step logs its own value, everything else a value of the whole phase.
    by_step = in_batch and phase is Phase.TRAIN
    defaults = {"logger": True, "on_step": by_step, "on_epoch": not by_step}
    options |= {option: default for option, default in defaults.items() if options[option] is None}
    options["reduce_fx"] = _reduction(name, options["reduce_fx"])
    return LogOptions(**options)


def refuse_difference(name: str, before: LogOptions, now: LogOptions) -> None:
    """Raise `MetricError` if ``name`` is logged with other options than before."""
    different = [field for field in _FIELDS if getattr(before, field) != getattr(now, field)]
    if different:
        shown = [", ".join(f"{field}={getattr(options, field)!r}" for field in different) for options in (before, now)]
        raise MetricError(
            f"self.log({name!r}) was called twice with different options.\n"
            f"    before       {shown[0]}\n"
            f"    now          {shown[1]}\n"
            "    to do        use the same options in each call, or another name"
        )


def describe(phase: Phase) -> str:
    """Return ``phase`` in words."""
    return _WORDS[phase]


_FIELDS = tuple(field.name for field in dataclasses.fields(LogOptions))
_FLAGS = {name: (bool,) for name in ("prog_bar", "add_dataloader_idx", "rank_zero_only")} | {
    name: (bool, type(None)) for name in ("logger", "on_step", "on_epoch", "sync_dist")
}
_WORDS = {
    Phase.TRAIN: "a training epoch",
    Phase.SANITY_CHECK: "the sanity check",
    Phase.VALIDATE: "a validation",
    Phase.TEST: "a test",
    Phase.PREDICT: "a prediction",
}


def _check_flags(name: str, options: dict[str, Any]) -> None:
    for flag, kinds in _FLAGS.items():
        if not isinstance(options[flag], kinds):
            allowed = "True, False or None" if type(None) in kinds else "True or False"
            raise MetricError(f"self.log({name!r}, {flag}={options[flag]!r}): {flag} is {allowed}.")


def _reduction(name: str, reduce_fx: Any) -> ReduceFx:
    spelling = reduce_fx.lower() if isinstance(reduce_fx, str) else reduce_fx
    # Functions are compared by identity: a tensor, given by mistake, has no one answer to ==.
    for known, reduction in _SPELLINGS:
        if spelling is known or (isinstance(spelling, str) and spelling == known):
            return cast(ReduceFx, reduction)
    if spelling in REDUCTIONS:
        return cast(ReduceFx, spelling)
    nearest = nearest_name(spelling, REDUCTIONS) if isinstance(spelling, str) else None
    raise MetricError(
        f"self.log({name!r}, reduce_fx={reduce_fx!r}) asks for a reduction that is not known.\n"
        f"    allowed      {', '.join(REDUCTIONS)}; anything else is done by logging a torchmetrics Metric"
        + (f"\n    did you mean {nearest!r}?" if nearest else "")
    )
