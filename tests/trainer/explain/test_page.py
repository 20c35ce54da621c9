"""An explanation as text."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from trainkit.callbacks import EarlyStopping
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.explain.page import WIDTH, page, size_text


def test_an_endless_run_is_told_as_one() -> None:
    class Endless:
        def __iter__(self) -> Any:
            return itertools.cycle(TinyData(3))

    told = quiet_trainer(max_epochs=-1, max_steps=-1).explain(TinyModule(), Endless())
    assert told.batches is None and told.updates == float("inf")
    assert "no limit of epochs, nobody knows how many updates" in str(told)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e6, "2.5 MB"), (3e9, "3 GB"), (4e12, "4 TB")]
)
def test_sizes_have_units(size: float, text: str) -> None:
    assert size_text(size) == text


def test_no_line_is_longer_than_the_page() -> None:
    told = quiet_trainer(max_epochs=1, callbacks=[EarlyStopping("a/very/long/name" * 8)]).explain(
        TinyModule(), TinyData(2)
    )
    assert max(map(len, page(told).splitlines())) <= WIDTH
