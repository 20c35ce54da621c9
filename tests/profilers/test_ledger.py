from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.hooks.stopwatch import Spent
from trainkit.hooks.timing import TimingRow
from trainkit.profilers.ledger import Ledger, RankShare, make_ledger
from trainkit.profilers.sample import Sample


def test_the_time_of_unmeasured_steps_is_divided_as_that_of_measured_ones() -> None:
    parts = {
        "forward": Spent(calls=10, seconds=1.0, more_calls=90, more_seconds=9.0),
        "evaluation": Spent(calls=1, seconds=5.0),
    }
    rows = [TimingRow(calls=10, seconds=3.0, more_calls=90, more_seconds=27.0, plugin="A", hook="on_train_batch_end")]
    sample = Sample(steps=100, measured=10, weight=90, unmeasured=Spent(seconds=40.0))
    ledger = make_ledger("fit", parts, rows, {}, {}, sample)
    assert ledger.seconds_of("forward") == pytest.approx(1 + 10)
    assert ledger.seconds_of("callbacks") == pytest.approx(3 + 30)
    assert ledger.seconds_of("evaluation") == 5
    assert ledger.seconds == pytest.approx(1 + 3 + 5 + 40)
    (row,) = ledger.rows
    assert (row.plugin, row.calls, row.percent) == ("A", 100, pytest.approx(100 * 33 / 49))


def test_a_plugin_counts_to_the_share_that_it_belongs_to() -> None:
    rows = [TimingRow(1, 2.0, 0, 0, "Csv", "on_log"), TimingRow(1, 1.0, 0, 0, "Mine", "on_log")]
    ledger = make_ledger("fit", {}, rows, {"Csv": "logging"}, {"augment": Spent(3, 4.0)}, Sample())
    assert {share.name: share.seconds for share in ledger.shares} == {"logging": 2, "callbacks": 1, "own blocks": 4}
    assert ledger.rows[0][:3] == ("", "augment", 3)


def test_without_a_measured_step_their_time_is_in_the_rest() -> None:
    ledger = make_ledger("fit", {}, [], {}, {}, Sample(steps=2, unmeasured=Spent(seconds=3.0)))
    assert [tuple(share) for share in ledger.shares] == [("the rest", 3.0, 100.0)]


def test_a_call_in_which_nothing_took_any_time_has_no_percents_to_divide_by() -> None:
    assert make_ledger("fit", {}, [TimingRow(calls=1)], {}, {}, Sample()).rows[0].percent == 0


@given(
    parts=st.dictionaries(
        st.sampled_from(["forward", "backward", "saving"]), st.tuples(st.floats(0, 9), st.floats(0, 9))
    ),
    unmeasured=st.floats(0, 100),
)
def test_shares_add_up_to_the_whole(parts: dict[str, tuple[float, float]], unmeasured: float) -> None:
    spent = {name: Spent(1, own, 1, more) for name, (own, more) in parts.items()}
    weight = float(any(more for _, more in parts.values()))
    sample = Sample(steps=9, measured=3, weight=weight, unmeasured=Spent(seconds=unmeasured))
    ledger = make_ledger("fit", spent, [], {}, {}, sample)
    assert ledger.seconds == pytest.approx(sum(own for own, _ in parts.values()) + unmeasured)
    assert sum(share.percent for share in ledger.shares) == pytest.approx(100 if ledger.seconds else 0)


def of_rank(data: float, backward: float) -> Ledger:
    parts = {
        "waiting for data": Spent(1, data),
        "backward": Spent(1, backward),
        "forward": Spent(1, 10 - data - backward),
    }
    return make_ledger("fit", parts, [], {}, {}, Sample())


def test_a_rank_waits_for_others_as_long_as_its_backward_is_beyond_the_shortest() -> None:
    ranks = [of_rank(1, 5), of_rank(4, 2)]
    ledger = ranks[0].with_ranks(ranks)
    assert ledger.ranks == (RankShare(0, 10.0, 30.0, 0.0), RankShare(1, 40.0, 0.0, 0.0))
    assert replace(ledger, ranks=()) == ranks[0]


def test_a_longer_forward_is_told_apart_from_the_wait_in_backward() -> None:
    # As where rank 1 waits for buffers that slow rank 0 sends.
    ranks = [of_rank(4, 3), of_rank(1, 3)]
    assert ranks[0].with_ranks(ranks).ranks == (RankShare(0, 40.0, 0.0, 0.0), RankShare(1, 10.0, 0.0, 30.0))
