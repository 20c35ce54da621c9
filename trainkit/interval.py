"""Intervals as users write them: ``"500 steps"``, ``"250 batches"``, ``"10k samples"``, ``"2 epochs"``, ``"2h"``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

from trainkit.checks import SECONDS_OF, Duration, is_whole, seconds
from trainkit.errors import ConfigError
from trainkit.progress import Progress
from trainkit.quantity import QuantityError, read_quantity

Unit = Literal["steps", "batches", "samples", "epochs", "seconds"]
"""What an interval is counted in, over the whole run: updates of the weights, training batches, samples of all ranks,
epochs whose batches are done, seconds spent in fits."""

_COUNTER: dict[Unit, str] = {
    "steps": "global_step",
    "batches": "total_batches",
    "samples": "samples",
    "epochs": "epochs_done",
    "seconds": "elapsed_s",
}
_VALIDATED: dict[Unit, str] = {
    "steps": "validated_at_step",
    "batches": "validated_at_batches",
    "samples": "validated_at_samples",
    "epochs": "validated_at_epochs",
}
_UNIT_OF: dict[str, Unit] = {
    **{unit: unit for unit in get_args(Unit)},
    **{"step": "steps", "batch": "batches", "sample": "samples", "epoch": "epochs"},
    **dict.fromkeys(SECONDS_OF, "seconds"),
}
_MOST = 2**53  # more than any counter comes to


@dataclass(frozen=True, slots=True)
class Interval:
    """How far it is from one event to the next, in one unit that is counted over the whole run.

    An event is due when the count has come to, or passed, the next multiple: it may grow by more than one at a time,
    as samples do with every batch, and must not be missed then.

    Attributes:
        size: A whole number; of seconds any number.
        unit: What is counted.
    """

    size: float
    unit: Unit

    def __str__(self) -> str:
        return f"{self.size} {self.unit}"

    def count(self, progress: Progress) -> float:
        """Return how much of the unit a run has behind it."""
        count: float = getattr(progress, _COUNTER[self.unit])
        return count

    def count_at_validation(self, progress: Progress) -> float:
        """Return how much of the unit it had behind it at its last validation; of seconds nobody knows."""
        count: float = getattr(progress, _VALIDATED[self.unit])
        return count

    def passed(self, before: float, now: float) -> int:
        """Return how many multiples the count has come to, or passed, since it was ``before``."""
        return int(now // self.size - before // self.size)

    def left(self, before: float, now: float) -> float:
        """Return how much of the unit is to come until something is due; 0 if it is overdue.

        Args:
            before: The count when something was done last.
            now: The count.
        """
        return max(0, (before // self.size + 1) * self.size - now)


def read_interval(name: str, given: Duration, where: str) -> Interval:
    """Return what ``given`` says: a number and its unit, or a time.

    Args:
        name: What the argument is called.
        given: Such as ``"500 steps"`` or ``"30 min"``; for times also what `trainkit.checks.seconds` takes.
        where: Whose argument it is, such as ``"Trainer"``.

    Raises:
        ConfigError: If it is no interval, or not above 0.
    """
    if isinstance(given, timedelta | dict) or (isinstance(given, str) and ":" in given):
        found = Interval(seconds(f"{where}: {name}", given), "seconds")
    else:
        found = _quantity(name, given, where)
    if found.size <= 0:
        raise _refusal(name, given, where, "is not above 0.")
    return found


def is_interval(given: object) -> bool:
    """Return whether ``given`` is a text that says an interval."""
    try:
        return isinstance(given, str) and bool(read_interval("", given, ""))
    except ConfigError:
        return False


def _quantity(name: str, given: object, where: str) -> Interval:
    if not isinstance(given, str):
        unitless = f", but a number without a unit. Is it '{given} steps'?" if is_whole(given, at_least=1) else "."
        raise _refusal(name, given, where, f"is no interval{unitless}")
    try:
        size, word = read_quantity(given, _UNIT_OF)
    except QuantityError as error:
        raise _refusal(name, given, where, str(error)) from error
    unit = _UNIT_OF[word]
    if size > _MOST:
        raise _refusal(name, given, where, "is more than a run can come to.")
    if unit == "seconds":
        return Interval(float(size) * SECONDS_OF.get(word, 1), unit)
    if size % 1:
        raise _refusal(name, given, where, f"is no whole number of {unit}.")
    return Interval(int(size), unit)


def _refusal(name: str, given: object, where: str, why: str) -> ConfigError:
    return ConfigError(
        f"{where}: {name}={given!r} {why} Allowed: a number (k, M and B are thousands, millions and billions) and what "
        "it counts over the whole run, as in '500 steps', '250 batches', '10k samples', '2 epochs', or a time, as in "
        "'90 s', '30 min', '2h', '00:12:00:00'."
    )
