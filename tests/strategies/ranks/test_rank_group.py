"""Two processes: what they exchange and agree on, and how both end when one does something else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.strategies import agreeing_ranks, odd_ranks
from tests.strategies.started import Ranks
from trainkit.testing import quiet_trainer

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

ODD = {
    "None from training_step": (1, "training_step", "-", r"rank 1 .*its training_step returned None"),
    "-1 from a plugin": (0, "on_train_batch_start", "skips", r"rank 0 .*on_train_batch_start of Odd returned -1"),
    "a checkpoint": (0, "on_train_batch_end", "saves", r"rank 0 .*Trainer.save_checkpoint, in on_train_batch_end"),
    "an error": (1, "on_train_epoch_end", "raises", r"rank 1 .*something is wrong here, in plugin 'Odd'"),
    "a logged value": (1, "on_validation_end", "logs", r"rank 1 .*Strategy.all_reduce"),
}
"""What one rank does alone: ``(rank, hook, action, what both are told)``."""

FINE = {
    "a wish to stop": (1, "on_validation_batch_end", "stops"),
    "a nap": (0, "on_train_batch_end", "sleeps"),
}


@pytest.mark.parametrize("name", ODD)
def test_both_ranks_end_and_are_told_what_one_has_done(tmp_path: Path, name: str):
    rank, hook, action, message = ODD[name]
    for number, ended in enumerate(Ranks(odd_ranks.__file__, tmp_path, rank, hook, action).ended()):
        assert ended.code in (7, 1), ended.text
        if action != "raises" or number != rank:
            assert re.search(message, ended.text), ended.text
            assert "to do  " in ended.text


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_batch_end"])
def test_a_rank_that_is_killed_is_named_by_the_other(tmp_path: Path, odd: int, hook: str):
    ended = Ranks(odd_ranks.__file__, tmp_path, odd, hook, "is killed").ended()
    assert ended[odd].code == -9
    assert ended[1 - odd].code in (7, 1), ended[1 - odd].text
    # Rank 0 holds the store here, in which a rank would look for what it has told.
    told = "rank 0 has ended, and with it the store" if odd == 0 else "rank 1 +its process has ended without a word"
    assert re.search(told, ended[1 - odd].text)


@pytest.mark.parametrize("name", FINE)
def test_what_harms_nobody_ends_nothing_early(tmp_path: Path, name: str):
    first, second = Ranks(odd_ranks.__file__, tmp_path, *FINE[name]).ended()
    assert (first.code, second.code) == (0, 0), first.text
    assert first.text.splitlines()[-1] == second.text.splitlines()[-1] != ""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fitted(tmp_path_factory.mktemp("undisturbed"), "-")


def fitted(folder: Path, action: str) -> str:
    """Return what a fit of two ranks has come to."""
    first, second = Ranks(odd_ranks.__file__, folder, 0, "-", action).ended()
    assert (first.code, second.code) == (0, 0), first.text
    assert first.text.splitlines()[-1] == second.text.splitlines()[-1]
    return first.text.splitlines()[-1]


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_batch_end"])
def test_a_signal_to_one_rank_is_honoured_by_all_at_one_batch_and_continued_exactly(
    tmp_path: Path, undisturbed: str, hook: str
):
    ended = Ranks(odd_ranks.__file__, tmp_path, 1, hook, "is signalled").ended()
    assert [each.code for each in ended] == [143, 143], ended
    assert fitted(tmp_path, "goes on") == undisturbed


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_end"])
def test_a_rank_that_is_asked_to_end_waits_for_one_that_is_busy(tmp_path: Path, undisturbed: str, hook: str):
    ended = Ranks(odd_ranks.__file__, tmp_path, 0, hook, "is busy").ended()
    assert [each.code for each in ended] == [143, 143], ended
    assert fitted(tmp_path, "goes on") == undisturbed


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("agreeing")
    for ended in Ranks(agreeing_ranks.__file__, folder).ended():
        assert ended.code == 0, ended.text
        assert "Warning" not in ended.text
    return [torch.load(folder / f"rank_{rank}.pt") for rank in range(2)]


def test_evaluation_takes_any_number_of_samples_also_fewer_than_ranks(ranks: list[dict[str, Any]]):
    module = agreeing_ranks.Evaluated()
    for samples in range(1, 10):
        expected = quiet_trainer().validate(module, odd_ranks.loader(samples), verbose=False)
        for rank in ranks:
            validated, tested, predicted = rank["sizes"][samples]
            assert validated == [pytest.approx(each) for each in expected]
            assert tested[0]["test/loss/dataloader_idx_0"] == pytest.approx(expected[0]["val/loss"])
            assert predicted == -(-samples // 2)  # the batches of all ranks


def test_ranks_exchange_and_save_before_and_after_a_fit(ranks: list[dict[str, Any]]):
    assert [rank["around a fit"] for rank in ranks] == [(8, [0, 1])] * 2


def test_a_stop_that_one_rank_asks_for_is_made_by_all_at_the_same_batch(ranks: list[dict[str, Any]]):
    (steps, weights), (others, other_weights) = (rank["stopped"] for rank in ranks)
    assert steps == others in (4, 5)  # at most a batch later: the other rank may be in it
    assert_close(weights, other_weights, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["searched", "searched by hand"])
def test_a_line_search_goes_by_the_loss_of_all_ranks(ranks: list[dict[str, Any]], name: str):
    (steps, weights), (others, other_weights) = (rank[name] for rank in ranks)
    assert steps == others == 12
    assert_close(weights, other_weights, rtol=0, atol=0)


def test_time_is_up_at_the_same_batch(ranks: list[dict[str, Any]]):
    (steps, weights), (others, other_weights) = (rank["time"] for rank in ranks)
    assert steps == others
    assert_close(weights, other_weights, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("settings", "max_epochs   2 on rank 0, 3 on rank 1"),
        ("plugins", "plugins      MetricRows on rank 0, MetricRows, Timer on rank 1"),
        ("lengths", "train_dataloader has different numbers of batches: 4 on rank 0, 6 on rank 1"),
    ],
)
def test_what_ranks_were_given_is_compared_ahead_of_everything(ranks: list[dict[str, Any]], name: str, message: str):
    for rank in ranks:
        assert message in rank[name]


def test_ranks_find_each_other_again_after_errors(ranks: list[dict[str, Any]]):
    assert [rank["after errors"][0] for rank in ranks] == [12, 12]


def test_nothing_but_gradients_is_exchanged_in_a_steady_step(ranks: list[dict[str, Any]]):
    for rank in ranks:
        assert rank["exchanged"] == [[]] * 5
