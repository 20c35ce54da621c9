"""Programs in the style of Lightning's documentation, of which only the package's name was changed."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pytest

# What each program has to reach; what must hold on the way, it asserts itself.
REACHES = {
    "autoencoder": {"val_loss": (0.0, 0.25), "steps": (20, 20)},
    "classifier": {"test_acc": (0.8, 1.0), "hidden": (64, 64), "best": (0.0, 0.6)},
    "gan": {"g_loss": (0.0, 5.0), "d_loss": (0.0, 1.0), "batches": (24, 24)},
    "iterable": {"steps": (60, 60), "error": (0.0, 0.1), "saved": (2, 2)},
    "lbfgs": {"accuracy": (0.8, 1.0), "evaluations": (40, 40), "steps": (8, 8)},
    "metrics": {"train/acc": (0.9, 1.0), "val/acc": (0.8, 1.0), "test/f1": (0.8, 1.0)},
    "multi_loader": {"accuracy/dataloader_idx_0": (0.4, 1.0), "accuracy_of_set_1": (0.4, 1.0), "steps": (30, 30)},
    "predictions": {"accuracy": (0.6, 1.0)},
    "transfer_learning": {"frozen": (0.0, 1.3), "thawed": (0.0, 0.6)},
    "transformer": {"perplexity": (1.0, 8.0), "steps": (15, 15), "peak": (0.01, 0.01), "last": (0.0, 1e-9)},
}
PROGRAMS = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if "def main(" in path.read_text())


def test_every_program_has_something_to_reach() -> None:
    assert sorted(REACHES) == [name for name in PROGRAMS if name != Path(__file__).stem]


@pytest.mark.parametrize("name", REACHES)
def test_program_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = importlib.import_module(f"tests.programs.{name}").main(tmp_path)
    assert all(math.isfinite(value) for value in results.values())
    for what, (least, most) in REACHES[name].items():
        assert least <= results[what] <= most, what
