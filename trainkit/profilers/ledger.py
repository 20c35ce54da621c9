"""`Ledger`: where the time of one call went, as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from trainkit.hooks.stopwatch import Spent
from trainkit.hooks.timing import TimingRow

SHARES = (
    "preparing",
    "waiting for data",
    "moving batches",
    "forward",
    "backward",
    "compiled step",
    "optimizer",
    "evaluation",
    "logging",
    "saving",
    "callbacks",
    "own blocks",
    "the rest",
)
"""What the time of a call is divided into. Each moment belongs to one of them."""


class Share(NamedTuple):
    """One of `SHARES`.

    Attributes:
        name: Its name.
        seconds: How long it took.
        percent: Of the whole call.
    """

    name: str
    seconds: float
    percent: float


class LedgerRow(NamedTuple):
    """The time of one plugin in one hook.

    Attributes:
        plugin: The plugin's name.
        hook: The hook's name; for a block of the user's own, what `Profiler.profile` was given.
        calls: How often it was called; where steps were sampled, about so often.
        seconds: How long that took, without what other plugins did within it.
        percent: Of the whole call.
    """

    plugin: str
    hook: str
    calls: int
    seconds: float
    percent: float


class RankShare(NamedTuple):
    """How one of several ranks spent its training steps.

    Attributes:
        rank: Its number.
        data: Percent of the call in which it waited for data.
        others: Percent in which it waited for other ranks: its backward beyond the shortest of all ranks.
    """

    rank: int
    data: float
    others: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Where the time of one call went: wall time of the host.

    Attributes:
        stage: The call: ``fit``, ``validate``, ``test`` or ``predict``.
        seconds: How long it took.
        steps: Its training batches.
        measured_steps: Those of them that were measured; the others are taken to be like these.
        shares: What the time is divided into; those that took none are left out.
        rows: Plugins and hooks, the longest time first.
        ranks: The ranks, where there are several.
    """

    stage: str
    seconds: float
    steps: int
    measured_steps: int
    shares: tuple[Share, ...]
    rows: tuple[LedgerRow, ...]
    ranks: tuple[RankShare, ...] = field(default=())

    def seconds_of(self, name: str) -> float:
        """Return the seconds of the share of this name; 0 if it took none."""
        return next((share.seconds for share in self.shares if share.name == name), 0.0)

    def with_ranks(self, ranks: Iterable[Ledger]) -> Ledger:
        """Return the same with the shares of all ``ranks``, given in their order."""
        ledgers = list(ranks)
        shortest = min(each.seconds_of("backward") for each in ledgers)
        shares = (
            RankShare(
                rank,
                _percent(each.seconds_of("waiting for data"), each.seconds),
                _percent(each.seconds_of("backward") - shortest, each.seconds),
            )
            for rank, each in enumerate(ledgers)
        )
        return replace(self, ranks=tuple(shares))


@dataclass(slots=True)
class Sample:
    """What is known of the steps that were not measured.

    Attributes:
        steps: All training batches.
        measured: Those that were measured.
        weight: For how many others these were chosen to stand, in all.
        unmeasured: The time of all others together, which is known exactly.
    """

    steps: int = 0
    measured: int = 0
    weight: float = 0.0
    unmeasured: Spent = field(default_factory=Spent)

    def seconds_of(self, spent: Spent) -> float:
        """Return the seconds of something, that of unmeasured steps included."""
        # Their time as a whole is known; what was measured only says how it is divided.
        if not self.weight:
            return spent.seconds
        return spent.seconds + self.unmeasured.seconds * spent.more_seconds / self._more_seconds

    def calls_of(self, spent: Spent) -> int:
        """Return about how often something was called, in unmeasured steps too."""
        left = self.steps - self.measured
        return spent.calls + (round(left * spent.more_calls / self.weight) if self.weight else 0)

    _more_seconds: float = field(default=0.0, init=False)

    def divide(self, all_spent: Iterable[Spent]) -> None:
        """Let ``all_spent``, all that is measured in a step, share the time of those that were not."""
        self._more_seconds = sum(each.more_seconds for each in all_spent) or 1.0


def make_ledger(
    stage: str,
    parts: Mapping[str, Spent],
    rows: Iterable[TimingRow],
    shares: Mapping[str, str],
    blocks: Mapping[str, Spent],
    sample: Sample,
) -> Ledger:
    """Return the ledger of a call.

    Args:
        stage: The call.
        parts: What was spent outside of plugins, by the share it belongs to.
        rows: What was spent in plugins.
        shares: To which share a plugin belongs, by its name; others are ``callbacks``.
        blocks: What was spent in blocks of the user's own, by name.
        sample: What is known of the steps that were not measured.
    """
    rows = list(rows)
    sample.divide([*parts.values(), *rows, *blocks.values()])
    seconds = dict.fromkeys(SHARES, 0.0)
    for name, spent in parts.items():
        seconds[name] += sample.seconds_of(spent)
    for row in rows:
        seconds[shares.get(row.plugin, "callbacks")] += sample.seconds_of(row)
    for spent in blocks.values():
        seconds["own blocks"] += sample.seconds_of(spent)
    if not sample.weight:  # nothing says how they are divided
        seconds["the rest"] += sample.unmeasured.seconds
    whole = sum(seconds.values())
    own = [
        TimingRow(each.calls, each.seconds, each.more_calls, each.more_seconds, "", name)
        for name, each in blocks.items()
    ]
    told = [
        LedgerRow(row.plugin, row.hook, sample.calls_of(row), took, _percent(took, whole))
        for row in (*rows, *own)
        for took in (sample.seconds_of(row),)
    ]
    return Ledger(
        stage=stage,
        seconds=whole,
        steps=sample.steps,
        measured_steps=sample.measured,
        shares=tuple(Share(name, took, _percent(took, whole)) for name, took in seconds.items() if took),
        rows=tuple(sorted(told, key=lambda row: -row.seconds)),
    )


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0
