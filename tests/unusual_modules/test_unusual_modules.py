"""Unusual modules, drawn by chance, against a loop by hand; ``python -m tests.unusual_modules`` draws more."""

from __future__ import annotations

import pytest

from tests.unusual_modules.compare import differences
from tests.unusual_modules.draws import HOOK_FORMS, MANUAL, OPTIMIZERS, OWN_STEPS, STEP_FORMS, draw

KEPT = [
    58,  # manual optimization that passes a closure to LBFGS
    135,  # an own optimizer_step that updates past `step`, with accumulation
    230,  # an optimizer that asks for the loss of a group whose newest batch was skipped
]
"""Seeds beyond the first fifty that differed once, or would if something were forgotten."""
SEEDS = [*range(50), *KEPT]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_module_is_trained_as_by_hand(seed: int) -> None:
    assert differences(seed) == [], str(draw(seed))


def test_the_draws_have_everything_in_them() -> None:
    drawn = [draw(seed) for seed in SEEDS]
    assert {each.step for each in drawn} == {*STEP_FORMS}
    assert {form for each in drawn for form in (each.validation, *each.hooks.values())} == {*HOOK_FORMS}
    assert {each.optimizer for each in drawn} == {*OPTIMIZERS}
    assert {each.own_step for each in drawn} == {*OWN_STEPS, None}
    assert {each.manual for each in drawn} == {*MANUAL, None}
