from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from trainkit.callbacks.model_checkpoint.ranking import KeptCheckpoints
from trainkit.errors import ConfigError

# The protected methods are what `ModelCheckpoint` builds on.


def rank(kept: KeptCheckpoints, scores: list[float]) -> list[str]:
    """Offer checkpoints named by their index; return those that were let go."""
    gone: list[str] = []
    for index, score in enumerate(scores):
        if kept._is_among_best(torch.tensor(score)):
            gone += kept._evict()
            kept._add(os.path.join(kept.dirpath or "", str(index)))
    return gone


@given(
    scores=st.lists(st.floats(width=32), min_size=1, max_size=12),
    save_top_k=st.integers(1, 4),
    mode=st.sampled_from(["min", "max"]),
)
@example(scores=[math.nan, 1.0], save_top_k=1, mode="min")
@example(scores=[math.nan, 1.0], save_top_k=1, mode="max")
def test_the_best_k_are_kept_the_earlier_of_equals_and_nan_last(
    scores: list[float], save_top_k: int, mode: str
) -> None:
    kept = KeptCheckpoints(None, "val/loss", mode, save_top_k)  # type: ignore[arg-type]
    gone = rank(kept, scores)

    def badness(index: int) -> float:
        return math.inf if math.isnan(scores[index]) else scores[index] if mode == "min" else -scores[index]

    best = sorted(range(len(scores)), key=badness)[:save_top_k]
    assert set(kept.best_k_models) == {str(index) for index in best}
    assert kept.best_model_path == str(best[0])
    assert kept.best_model_score is not None
    assert not set(gone) & set(kept.best_k_models)
    if len(best) == save_top_k:
        assert kept.kth_value == kept.best_k_models[kept.kth_best_model_path]
        assert badness(int(kept.kth_best_model_path)) == badness(best[-1])


def test_minus_one_keeps_all() -> None:
    kept = KeptCheckpoints(None, "val/loss", "min", -1)
    assert rank(kept, [2.0, 1.0, 1.0, math.nan]) == []
    assert list(kept.best_k_models) == ["0", "1", "2", "3"]
    assert kept.best_model_path == "1"


def test_without_a_monitor_the_newest_is_the_best() -> None:
    kept = KeptCheckpoints(None, None, "min", 1)
    kept._add("a")
    assert kept._evict() == ["a"]
    kept._add("b")
    assert (kept.best_model_path, kept.best_model_score, kept.best_k_models) == ("b", None, {})


def test_state_goes_into_a_fresh_one() -> None:
    kept, fresh = (KeptCheckpoints("/runs", "val/loss", "max", 2) for _ in range(2))
    rank(kept, [0.1, 0.3, 0.2])
    fresh.load_state_dict(kept.state_dict())
    assert fresh.state_dict() == kept.state_dict()
    assert rank(fresh, [0.15]) == []
    assert rank(fresh, [0.25]) == ["/runs/2"]


def test_state_is_plain() -> None:
    kept = KeptCheckpoints("/runs", "val/loss", "max", 2)
    rank(kept, [0.5])
    assert kept.state_dict() == {
        "monitor": "val/loss",
        "dirpath": "/runs",
        "best_model_path": "/runs/0",
        "best_model_score": 0.5,
        "best_k_models": {"/runs/0": 0.5},
        "kth_best_model_path": "",
        "kth_value": -math.inf,
        "last_model_path": "",
        "current_score": 0.5,
        "used_version": None,
        "saved_step": 0,
        "obsolete": [],
    }


def test_a_smaller_k_given_in_code_wins() -> None:
    kept = KeptCheckpoints("/runs", "val/loss", "min", 3)
    rank(kept, [1.0, 2.0, 3.0])
    smaller = KeptCheckpoints("/runs", "val/loss", "min", 1)
    smaller.load_state_dict(kept.state_dict())
    assert not smaller._is_among_best(torch.tensor(1.5))
    assert smaller._is_among_best(torch.tensor(0.5))
    assert smaller._evict() == ["/runs/0", "/runs/1", "/runs/2"]


def test_in_another_folder_the_best_of_the_old_one_stays_best_until_it_is_beaten(tmp_path: Path) -> None:
    old_best = tmp_path / "old" / "0"
    old_best.parent.mkdir()
    old_best.touch()
    old = KeptCheckpoints(str(old_best.parent), "val/loss", "min", 1)
    old._is_among_best(torch.tensor(1.0))
    old._add(str(old_best))

    moved = KeptCheckpoints(str(tmp_path / "new"), "val/loss", "min", 1)
    moved.load_state_dict(old.state_dict())
    assert rank(moved, [2.0]) == []
    assert (moved.best_model_path, moved.best_model_score) == (str(old_best), 1.0)
    assert rank(moved, [0.5]) == [str(tmp_path / "new" / "0")]
    assert (moved.best_model_path, moved.best_model_score) == (str(tmp_path / "new" / "0"), 0.5)


@pytest.mark.parametrize("save_top_k", [-2, 1.5, True, None])
def test_an_impossible_k_is_refused(save_top_k: object) -> None:
    with pytest.raises(ConfigError, match=r"save_top_k=.* must be a whole number: -1 for all, 0 for none"):
        KeptCheckpoints(None, "val/loss", "min", save_top_k)  # type: ignore[arg-type]


def test_several_without_a_monitor_are_refused() -> None:
    with pytest.raises(ConfigError, match="save_top_k=3 needs a monitor"):
        KeptCheckpoints(None, None, "min", 3)
