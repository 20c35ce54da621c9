from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed import HashStore

from trainkit.errors import RankError
from trainkit.strategies.ranks import board as module
from trainkit.strategies.ranks.board import Board


def watch(rank: int) -> Any:
    return SimpleNamespace(rank=rank, world_size=3, is_inside=True, verdict="")


@pytest.fixture
def store() -> HashStore:
    return HashStore()


def test_rank_0_hears_from_all_others_in_their_order(store: HashStore) -> None:
    boards = [Board(store, watch(rank)) for rank in range(3)]
    heard: list[Any] = []
    thread = threading.Thread(target=lambda: heard.extend(boards[0].hear()))
    thread.start()
    boards[2].tell({"two": 2})
    assert thread.is_alive()
    boards[1].tell(["one"])
    thread.join(10)
    assert heard == [["one"], {"two": 2}]


def test_it_gives_up_when_the_call_has_ended_in_an_error(store: HashStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    own = watch(0)
    board = Board(store, own)
    Board(store, watch(1)).tell(1)
    own.is_inside = False
    with pytest.raises(RankError, match="in vain for what rank 2 writes"):
        board.hear()


def test_it_gives_up_when_a_rank_is_known_to_have_left(store: HashStore) -> None:
    own = watch(0)
    own.verdict = "rank 1 has left"
    with pytest.raises(RankError):
        Board(store, own).hear()
