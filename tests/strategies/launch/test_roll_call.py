from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import HashStore

from tests.strategies.started import Ranks
from trainkit.errors import RankError
from trainkit.strategies.launch.roll_call import call_roll, tell_end

_ABSENT = str(Path(__file__).parents[1] / "absent_rank.py")
PATIENT, IMPATIENT = timedelta(seconds=60), timedelta(seconds=0.3)


def call_all(store: HashStore, world_size: int) -> set[str]:
    """Return the words that the ranks get, each in a thread of its own."""
    with ThreadPoolExecutor(world_size) as threads:
        return set(threads.map(lambda rank: call_roll(store, rank, world_size, PATIENT), range(world_size)))


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_all_ranks_get_one_word_and_another_one_each_time(world_size: int):
    store = HashStore()
    words = [call_all(store, world_size) for _ in range(3)]
    assert [len(each) for each in words] == [1, 1, 1]
    assert len(set.union(*words)) == 3


@pytest.mark.parametrize("gone", [[0], [1], [2], [0, 1], [1, 2], [0, 1, 2]])
def test_ranks_that_were_there_before_are_not_taken_for_those_that_come(gone: list[int]):
    # They have come and gone, before all were there. Each machine may have counted other restarts.
    store = HashStore()
    for rank in gone:
        with pytest.raises(RankError):
            call_roll(store, rank, 3, timedelta(0))
    before = store.get("roll") if store.check(["roll"]) else b""
    (word,) = call_all(store, 3)
    assert word.encode() not in before


def test_a_rank_that_comes_again_while_the_others_wait_is_heard():
    store = HashStore()
    words: list[str] = []

    def come(rank: int) -> None:
        words.append(call_roll(store, rank, 3, PATIENT))

    others = [threading.Thread(target=come, args=(rank,)) for rank in (0, 1)]
    for each in others:
        each.start()
    store.set("here/2", "the name of a process that was killed")
    come(2)
    for each in others:
        each.join()
    assert len(words) == 3 and len(set(words)) == 1


def test_another_number_of_ranks_may_meet_in_the_store_of_before():
    store = HashStore()
    assert len(call_all(store, 4)) == len(call_all(store, 2)) == len(call_all(store, 3)) == 1


def test_rank_0_names_those_that_did_not_come():
    store = HashStore()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(call_roll, store, 0, 4, IMPATIENT)
        second = threads.submit(call_roll, store, 2, 4, IMPATIENT)
        with pytest.raises(RankError, match=r"rank 2 of 4 has waited 0.3 s for rank 0"):
            second.result()
        with pytest.raises(RankError, match=r"rank 0 of 4 has waited 0.3 s for rank\(s\) 1, 3 and nobody came"):
            first.result()


@pytest.mark.parametrize("ended", [[1], [2], [0], [0, 2]])
def test_nobody_waits_for_a_rank_that_tells_that_its_program_ends(ended: list[int]):
    store, present = HashStore(), [rank for rank in range(3) if rank not in ended]
    with ThreadPoolExecutor(3) as threads:
        waiting = {rank: threads.submit(call_roll, store, rank, 3, PATIENT) for rank in present}
        for rank in ended:
            tell_end(store, rank)
        # One of them is the first to know. The program of its rank ends with the error, which it tells too.
        while waiting:
            done = next((rank for rank, each in waiting.items() if each.done()), None)
            if done is None:
                time.sleep(0.01)
                continue
            with pytest.raises(RankError, match=rf"rank {done} of 3 waits for .*, whose program has ended"):
                waiting.pop(done).result()
            tell_end(store, done)


def test_what_ranks_of_an_earlier_start_have_told_is_past():
    store = HashStore()
    for rank in range(3):
        store.set(f"ended/{rank}", "1700000000.0")
    assert len(call_all(store, 3)) == 1


@pytest.mark.distributed
@pytest.mark.parametrize("present", [0, 1])
def test_a_call_of_one_rank_alone_ends_and_says_so(tmp_path, present: int):
    ended = Ranks(_ABSENT, present, tmp_path).ended()
    assert [each.code for each in ended] == [int(rank == present) for rank in (0, 1)]
    assert f"waits for rank(s) {1 - present}, whose program has ended without a call" in ended[present].text


@pytest.mark.distributed
@pytest.mark.parametrize("present", [0, 1])
def test_a_call_of_one_rank_alone_ends_under_torchrun(tmp_path, present: int):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    ended = subprocess.run(
        [*command, _ABSENT, str(present), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ended.returncode == 1
    assert f"waits for rank(s) {1 - present}, whose program has ended without a call" in ended.stderr
