from __future__ import annotations

import pytest

from trainkit.callbacks.progress_bar.bar import Bar, duration_text, epoch_label, line_parts, values_text, wrapped


def test_the_rate_is_that_of_the_last_seconds():
    bar = Bar("Epoch", 1000, now=0.0)
    bar.update(10, 1.0)
    assert bar.rate == pytest.approx(10.0)
    for second in range(2, 60):
        bar.update(bar.done + 4, float(second))
    assert bar.rate == pytest.approx(4.0, rel=1e-3)


def test_time_spent_on_something_else_does_not_count():
    bar = Bar("Epoch", 100, now=0.0)
    bar.update(10, 1.0)
    bar.resume(500.0)
    bar.update(20, 501.0)
    assert bar.rate == pytest.approx(10.0)
    assert bar.elapsed_s == 2.0


def test_batches_of_an_earlier_run_do_not_make_it_faster():
    bar = Bar("Epoch", 100, done=90, now=0.0)
    assert (bar.rate, bar.fraction, bar.count_text) == (None, 0.9, "90/100")
    bar.update(92, 1.0)
    assert bar.rate == pytest.approx(2.0)


def test_the_words_of_a_bar_that_runs():
    bar = Bar("Epoch", 400, now=0.0)
    bar.update(40, 10.0)
    assert (bar.count_text, bar.time_text, bar.rate_text) == ("40/400", "0:10 < 1:30", "4.00 it/s")


def test_the_words_of_a_bar_that_is_done():
    bar = Bar("Epoch", 40, now=0.0)
    bar.update(40, 100.0)
    assert (bar.count_text, bar.time_text, bar.rate_text) == ("40/40", "1:40", "2.50 s/it")


def test_the_words_of_a_bar_of_unknown_length():
    bar = Bar("Epoch", None, now=0.0)
    assert (bar.fraction, bar.count_text, bar.time_text, bar.rate_text) == (None, "0", "0:00", "")
    bar.update(3, 1.5)
    assert (bar.fraction, bar.count_text, bar.time_text, bar.rate_text) == (None, "3", "0:02", "2.00 it/s")


def test_a_bar_without_batches_is_full():
    assert Bar("Test", 0, now=0.0).fraction == 1.0


def test_a_loader_that_gives_more_than_it_promised_stays_full():
    bar = Bar("Epoch", 2, now=0.0)
    bar.update(3, 1.0)
    assert (bar.fraction, bar.time_text) == (1.0, "0:01")


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (1234.5, "1234 it/s"),
        (99.96, "100 it/s"),
        (99.94, "99.9 it/s"),
        (1.0, "1.00 it/s"),
        (0.5, "2.00 s/it"),
        (0.001, "1000 s/it"),
    ],
)
def test_a_rate_has_three_digits(rate, text):
    bar = Bar("Epoch", None, now=0.0)
    bar.update(1, 1 / rate)
    assert bar.rate_text == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (36061, "10:01:01")])
def test_a_duration_is_written_as_on_a_clock(seconds, text):
    assert duration_text(seconds) == text


def test_values_have_four_digits():
    assert values_text({"train/loss": 0.312345, "n": 12.0, "lr": 1e-5, "x": float("nan")}) == (
        "train/loss 0.3123  n 12  lr 1e-05  x nan"
    )


def test_values_of_several_loaders_have_one_name():
    values = {"val/loss/dataloader_idx_0": 0.5, "lr": 0.1, "val/loss/dataloader_idx_1": 0.25}
    assert values_text(values) == "val/loss [0] 0.5 [1] 0.25  lr 0.1"


@pytest.mark.parametrize(("last", "text"), [(3, "Epoch 2/3"), (-1, "Epoch 2"), (None, "Epoch 2")])
def test_an_epoch_is_counted_from_1(last, text):
    assert epoch_label(1, last) == text


def test_names_of_values_cannot_act_on_a_terminal():
    assert values_text({"a\x1b[2J": 1.0, "50\r": 2.0}) == r"a\x1b[2J 1  50\r 2"


def test_lines_are_broken_between_parts_alone():
    parts = line_parts([Bar("Epoch 1", None, now=0.0)], {"train/loss": 0.5, "lr/AdamW": 0.001, "lr": 0.1})
    assert parts == ["Epoch 1: 0", "0:00", "train/loss 0.5", "lr/AdamW 0.001", "lr 0.1"]
    assert wrapped(parts, 32) == "Epoch 1: 0  0:00  train/loss 0.5\nlr/AdamW 0.001  lr 0.1"
    assert wrapped(parts, 31) == "Epoch 1: 0  0:00\ntrain/loss 0.5  lr/AdamW 0.001\nlr 0.1"
    assert wrapped(parts, 5).splitlines() == parts
    assert wrapped([], 5) == ""
