"""Checks draws against what their runs come to where nothing is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.rank_disagreements.draws import Draw
from tests.rank_disagreements.outcomes import Outcome, fault, outcomes, undisturbed


def check(draws: Sequence[Draw], folder: Path, *, at_once: int = 3) -> Iterator[tuple[Outcome, str]]:
    """Give what came of each draw, and what is wrong with it: empty if nothing is."""
    # One that breaks out of its loader has another kind of loader, whose order is not that of the reference.
    compared = [draw for draw in draws if draw.action != "breaks"]
    references: dict[Draw, dict[str, Any] | None] = {}
    for number, quiet in enumerate(dict.fromkeys(map(undisturbed, compared))):
        (outcome,) = outcomes([quiet], folder / f"quiet_{number}")
        references[quiet] = outcome.ranks[0].result
        if wrong := fault(outcome, None):
            yield outcome, wrong
    for outcome in outcomes(draws, folder, at_once=at_once):
        yield outcome, fault(outcome, references.get(undisturbed(outcome.draw)))
