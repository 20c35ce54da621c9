from __future__ import annotations

from benchmarks.turns import WARM_UP, Repeated, Turns


def test_loop_by_hand_makes_as_many_steps_before_each_turn():
    made: list[str] = []
    turns = Turns(lambda steps: made.append(f"hand {steps}"), "batch", size=2, per_epoch=2)
    assert len(turns) == 4
    for batch in turns:
        made.append(batch)
    assert made == ["hand 2", "batch", "batch", "hand 2", "batch", "batch"]


def test_a_turn_ends_when_the_next_one_is_asked_for():
    turns = Turns(lambda steps: None, "batch", size=1, per_epoch=1)
    for _ in range(WARM_UP + 2):
        list(turns)
    assert len(turns.hand.cpu) == WARM_UP + 2
    assert len(turns.contender.cpu) == WARM_UP + 1
    assert turns.comparison()["cpu"].pairs == 1


def test_repeated_batch_can_be_gone_through_again():
    batches = Repeated("batch", 3)
    assert list(batches) == list(batches) == ["batch"] * len(batches)
