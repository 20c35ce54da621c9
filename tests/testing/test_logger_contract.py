"""trainkit's own loggers keep the contract, and loggers that break a promise do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from trainkit.loggers import CSVLogger, Logger, TensorBoardLogger
from trainkit.testing import check_logger


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_own_loggers_keep_the_contract(kind: Any, tmp_path: Path) -> None:
    check_logger(kind, tmp_path)


class Loud(Logger):
    """Writes when it is made."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.txt").write_text("made")

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None: ...


class Once(Logger):
    """Can be closed once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows: list[Any] | None = []

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None: ...

    def finalize(self, status: Any) -> None:
        assert self.rows is not None, "closed twice"
        self.rows = None


@pytest.mark.parametrize(
    ("make", "told"),
    [(Loud, "dev run has written"), (Once, "closed twice"), (lambda folder: nn.Linear(1, 1), "no Logger")],
)
def test_a_logger_that_breaks_a_promise_is_told(make: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=told):
        check_logger(make, tmp_path)
