"""Checks draws against what their runs come to where nothing is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.rank_disagreements.draws import Draw
from tests.rank_disagreements.outcomes import Outcome, fault, outcomes, undisturbed, undisturbed_outcomes


def check(draws: Sequence[Draw], folder: Path, *, at_once: int = 3) -> Iterator[tuple[Outcome, str]]:
    """Give what came of each draw, and what is wrong with it: empty if nothing is."""
    # One that breaks out of its loader has another kind of loader, whose order is not that of the reference.
    compared = [draw for draw in draws if draw.action != "breaks"]
    references = undisturbed_outcomes(compared, folder, at_once=at_once)
    for outcome in references.values():
        if wrong := fault(outcome, None):
            yield outcome, wrong
    for outcome in outcomes(draws, folder, at_once=at_once):
        reference = references.get(undisturbed(outcome.draw))
        yield outcome, fault(outcome, reference and reference.ranks[0].result)
