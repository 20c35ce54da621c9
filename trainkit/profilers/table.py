"""A `Ledger` as text of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from trainkit.printable import printable
from trainkit.profilers.ledger import Ledger

MOST_ROWS = 20
"""So many plugins and hooks are told, those that took most; the others are counted."""

LEAST = 0.005
"""So many percent a plugin has to take to be told."""

MOST_RANKS = 8
"""So many ranks are told, those that waited most."""


def as_text(ledger: Ledger) -> str:
    """Return the ledger as it is printed."""
    return "\n".join(_lines(ledger))


def _lines(ledger: Ledger) -> Iterator[str]:
    yield f"trainkit: where the {ledger.seconds:.3g} s of {ledger.stage} went, in wall time of the host"
    if ledger.measured_steps < ledger.steps:
        measured = f"{ledger.measured_steps:,} of {ledger.steps:,} training steps"
        yield f"  {measured} were measured; the others are taken to be like them"
    if ledger.slow_steps:
        yield f"  {_counted(ledger.slow_steps)} far longer, and nothing says in what: see slow steps"
    yield ""
    yield f"  {'share':<18} {'seconds':>10} {'percent':>8}"
    for share in ledger.shares:
        yield f"  {share.name:<18} {share.seconds:>10.3f} {share.percent:>8.1f}"
    yield from _ranks(ledger)
    if ledger.rows:
        yield ""
        yield from _rows(ledger)


def _rows(ledger: Ledger) -> Iterator[str]:
    yield f"  {'plugin':<21} {'hook':<25} {'calls':>9} {'seconds':>9} {'percent':>8}"
    told = [row for row in ledger.rows[:MOST_ROWS] if row.percent >= LEAST]
    for row in told:
        plugin, hook = _cut(row.plugin or "(own block)", 21), _cut(row.hook, 25)
        yield f"  {plugin:<21} {hook:<25} {row.calls:>9,} {row.seconds:>9.3f} {row.percent:>8.2f}"
    left = ledger.rows[len(told) :]
    if left:
        seconds, percent = sum(row.seconds for row in left), sum(row.percent for row in left)
        yield f"  {f'and {len(left)} more':<57} {seconds:>9.3f} {percent:>8.2f}"


def _ranks(ledger: Ledger) -> Iterator[str]:
    """Yield how ranks differ. The wait for others is what backward took beyond the shortest of all."""
    if ledger.ranks:
        yield ""
        yield f"  {'rank':<6} {'% waiting for data':>19} {'% waiting for others':>21} {'% longer in forward':>20}"
    for rank in sorted(ledger.ranks, key=lambda rank: -rank.others - rank.forward)[:MOST_RANKS]:
        yield f"  {rank.rank:<6} {rank.data:>19.1f} {rank.others:>21.1f} {rank.forward:>20.1f}"
    if len(ledger.ranks) > MOST_RANKS:
        yield f"  and {len(ledger.ranks) - MOST_RANKS} more"


def _counted(steps: int) -> str:
    return "1 other took" if steps == 1 else f"{steps:,} others took"


def _cut(text: str, width: int) -> str:
    text = printable(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"
