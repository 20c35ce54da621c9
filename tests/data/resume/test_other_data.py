from __future__ import annotations

import pytest

from trainkit.data.resume.other_data import (
    WAYS,
    draws_other_samples,
    gives_other_data,
    refuse_other_data,
    warn_inexact,
)
from trainkit.errors import CheckpointError


def test_other_data_is_refused_with_what_it_was_and_is() -> None:
    saved = {"length": 5, "batch_size": 2}
    refuse_other_data("loader", saved, length=5, batch_size=2)
    with pytest.raises(CheckpointError, match=r"loader has batch_size=4, .* had 2: in the middle of an epoch"):
        refuse_other_data("loader", saved, length=5, batch_size=4)


def test_other_samples_are_told_of_with_what_to_do() -> None:
    assert "loader draws other samples" in str(draws_other_samples("loader"))
    assert "torch.Generator" in str(draws_other_samples("loader"))


@pytest.mark.parametrize("make", [draws_other_samples, gives_other_data])
def test_every_error_names_the_ways_to_go_on(make):
    assert str(make("loader")).endswith(WAYS)
    assert 'resume="next_epoch"' in WAYS
    assert 'resume="anyway"' in WAYS


def test_who_goes_on_anyway_is_told_why_that_is_not_exact():
    with pytest.warns(UserWarning, match="loader gives other data .* same place .* not exact from here") as told:
        warn_inexact(gives_other_data("loader"))
    assert "next_epoch" not in str(told[0].message)
