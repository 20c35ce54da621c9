from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.installed import Site
from trainkit.callbacks import EarlyStopping
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.told_elsewhere import without_told_elsewhere

COUNTS = """
class Counts:
    def __init__(self, step=1):
        self.step, self.seen = step, 0

    def on_train_batch_end(self):
        self.seen += self.step

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]
"""


class Counts:
    """A namesake in no package."""

    def __init__(self) -> None:
        self.seen = 0

    def on_train_batch_end(self) -> None:
        self.seen += 1

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


@pytest.fixture(params=["trainkit-counts", "counts_of_mine"])
def counts(site: Site, request: pytest.FixtureRequest) -> Any:
    """A class of a package, whose module has its name or another."""
    site.install(request.param, "1.5", "", counts_of_mine=COUNTS + "\n__version__ = '1.5'\n")
    return importlib.import_module("counts_of_mine").Counts


def fit(plugins: list[Any], folder: Path, run: int, capsys: pytest.CaptureFixture[str]) -> tuple[str, list[str]]:
    """Go on with a run; return what it has printed on stderr, and its warnings."""
    trainer = quiet_trainer(callbacks=plugins, max_epochs=run + 1)
    capsys.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(TinyModule(), TinyData(2), ckpt_path=folder / f"{run}.ckpt" if run else None)
    trainer.save_checkpoint(folder / f"{run + 1}.ckpt")
    return capsys.readouterr().err, [str(each.message) for each in caught if "states of plugins" in str(each.message)]


def test_a_missing_plugin_is_told_once_and_one_that_is_back_not_at_all(
    counts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit([counts(3)], tmp_path, 0, capsys)
    printed, warned = fit([], tmp_path, 1, capsys)
    assert printed == "" and len(warned) == 1 and "1.5" in warned[0]
    plugin = counts(3)
    assert fit([plugin], tmp_path, 2, capsys) == ("", [])
    assert plugin.seen == 3 * 2 * 2


def test_a_missing_namesake_is_told_once(counts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit([counts(3), Counts()], tmp_path, 0, capsys)
    printed, warned = fit([Counts()], tmp_path, 1, capsys)
    assert printed == "" and len(warned) == 1 and "1.5" in warned[0]


def test_namesakes_in_another_order_are_compared_with_themselves(
    counts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit([counts(3), Counts()], tmp_path, 0, capsys)
    assert fit([Counts(), counts(3)], tmp_path, 1, capsys) == ("", [])
    printed, _ = fit([counts(4), Counts()], tmp_path, 2, capsys)
    assert printed.count("callbacks.") == 1 and "callbacks.Counts.step  3" in printed


def test_one_that_is_new_is_told(counts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit([], tmp_path, 0, capsys)
    printed, _ = fit([counts(3)], tmp_path, 1, capsys)
    assert "callbacks.Counts" in printed


def test_what_no_warning_names_is_told(counts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit([Counts(), EarlyStopping("train/loss"), counts(3)], tmp_path, 0, capsys)
    printed, warned = fit([counts(4)], tmp_path, 1, capsys)
    assert warned == []
    assert "callbacks.EarlyStopping" in printed and "version" not in printed


def test_rows_of_versions_go_with_their_plugins() -> None:
    before = {
        "lr": 1,
        "callbacks.A": "A",
        "callbacks.A.step": 2,
        "callbacks.B": "B",
        "version.a_b": "3",
        "version.c": "4",
    }
    origins: Any = {"A": {"package": "A-b", "version": "3.0", "class": "A"}}
    left, right = without_told_elsewhere(before, {"lr": 2}, [], {"A": {}, "B": {}}, origins)
    assert left == {"lr": 1, "callbacks.B": "B", "version.c": "4"} and right == {"lr": 2}
