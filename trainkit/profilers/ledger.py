"""`Ledger`: where the time of one call went, as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from trainkit.hooks.stopwatch import Spent
from trainkit.hooks.timing import TimingRow
from trainkit.profilers.sample import Sample

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
    "slow steps",
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
        forward: Percent that its forward took beyond the shortest of all ranks: work of its own, or a wait for others
            where forward exchanges something, such as the buffers of BatchNorm. These two cannot be told apart.
    """

    rank: int
    data: float
    others: float
    forward: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Where the time of one call went: wall time of the host.

    Attributes:
        stage: The call: ``fit``, ``validate``, ``test`` or ``predict``.
        seconds: How long it took.
        steps: Its training batches.
        measured_steps: Those of them that were measured; the others are taken to be like these, unless they were slow.
        slow_steps: Those of the others that took far longer than a usual one, with nothing known that explains it. What
            they took beyond it is the share ``slow steps``.
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
    slow_steps: int = 0
    ranks: tuple[RankShare, ...] = field(default=())

    def seconds_of(self, name: str) -> float:
        """Return the seconds of the share of this name; 0 if it took none."""
        return next((share.seconds for share in self.shares if share.name == name), 0.0)

    def with_ranks(self, ranks: Iterable[Ledger]) -> Ledger:
        """Return the same with the shares of all ``ranks``, given in their order."""
        ledgers = list(ranks)
        shortest = {name: min(each.seconds_of(name) for each in ledgers) for name in ("backward", "forward")}
        shares = (
            RankShare(
                rank,
                _percent(each.seconds_of("waiting for data"), each.seconds),
                *(_percent(each.seconds_of(name) - least, each.seconds) for name, least in shortest.items()),
            )
            for rank, each in enumerate(ledgers)
        )
        return replace(self, ranks=tuple(shares))


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
    sample.divide([*parts.values(), *rows])
    seconds = dict.fromkeys(SHARES, 0.0)
    for name, spent in parts.items():
        seconds[name] += sample.seconds_of(spent)
    for row in rows:
        seconds[shares.get(row.plugin, "callbacks")] += sample.seconds_of(row)
    seconds["own blocks"] = sum(spent.seconds for spent in blocks.values())  # measured in each step
    if not sample.weight:  # nothing says how they are divided
        seconds["the rest"] += sample.usual_seconds
    seconds["slow steps"] = sample.unexplained_s
    whole = sum(seconds.values())
    own = [TimingRow(each.calls, each.seconds, hook=name) for name, each in blocks.items()]
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
        slow_steps=sum(each.steps for each in sample.unexplained),
        shares=tuple(Share(name, took, _percent(took, whole)) for name, took in seconds.items() if took),
        rows=tuple(sorted(told, key=lambda row: -row.seconds)),
    )


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0
