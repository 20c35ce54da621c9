"""A run that is stopped anywhere goes on to the very same end: a sample of ``scripts/sweep_resume.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from scripts.sweep_resume import KINDS, Case, Noisy, sweep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*(are loaded and thrown away|in turn with|nothing is left)"),
]

INLINE = [Case(kind, accumulate=1 + 2 * (number % 2)) for number, kind in enumerate(KINDS)]
WITH_WORKERS = [Case("map", 2, 3), Case("batch_sampler", 2), Case("iterable", 2, 3), Case("persistent", 2)]
# Every n-th of 87 places. Each kind sees others of them, and each start of workers takes its time.
SAMPLE = [(case, 5 + number) for number, case in enumerate(INLINE)] + [(case, 28) for case in WITH_WORKERS]


@pytest.mark.parametrize(("case", "every"), SAMPLE, ids=lambda value: " ".join(str(value).split()))
def test_a_run_continues_exactly_from_wherever_it_was_stopped(tmp_path: Path, case: Case, every: int) -> None:
    results = dict(sweep(case, tmp_path, every))
    assert len(results) == 87 // every or case.kind == "reloaded"
    assert {place: what for place, what in results.items() if what} == {}


class Counting(Noisy):
    """Keeps a counter that no checkpoint holds."""

    steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return super().training_step(batch, batch_idx) * (1 + self.steps / 1000)


def test_the_sweep_finds_what_no_checkpoint_holds(tmp_path: Path) -> None:
    results = dict(sweep(Case("map", module=Counting), tmp_path, 40))
    assert [what.partition(":")[0] for what in results.values()] == [
        "rows[2].train/loss_step",  # in rows of validations there is no loss
        "rows[1].train/loss_step",
    ]
