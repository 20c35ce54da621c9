from __future__ import annotations

from pathlib import Path

from benchmarks.checkpoint import Large, saving, saving_beside_training, skipping
from trainkit.storage.files import read_checkpoint


def test_every_pair_is_measured(tmp_path: Path) -> None:
    for measure in (saving, saving_beside_training):
        assert measure(tmp_path, 0.1, 3).pairs == 3


def test_what_is_saved_is_as_large_as_what_is_said(tmp_path: Path) -> None:
    saving_beside_training(tmp_path, 2, 1)
    (path,) = tmp_path.rglob("*.ckpt")
    assert path.stat().st_size > 2e6
    assert read_checkpoint(path)["state_dict"].keys() == Large(2).state_dict().keys()


def test_consumed_samples_are_skipped() -> None:
    assert skipping(640, 32, 3).median > 0
