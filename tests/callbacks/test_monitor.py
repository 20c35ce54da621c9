from __future__ import annotations

import math

import pytest
import torch

from trainkit.callbacks.monitor import as_score, check_mode, check_monitor, is_better, missing_metric_error, worst
from trainkit.errors import ConfigError, MetricError, UnknownNameError


def test_better_is_strictly_better() -> None:
    assert is_better(torch.tensor(1.0), torch.tensor(2.0), "min")
    assert is_better(torch.tensor(2.0), 1.0, "max")
    assert not is_better(torch.tensor(1.0), 1.0, "min")
    assert not is_better(torch.tensor(1.0), 1.0, "max")
    assert not is_better(torch.tensor(math.nan), 1.0, "min")


def test_everything_beats_the_worst() -> None:
    assert is_better(torch.tensor(1e30), worst("min"), "min")
    assert is_better(torch.tensor(-1e30), worst("max"), "max")


@pytest.mark.parametrize("value", [torch.tensor(0.1), torch.tensor(0.1, dtype=torch.float64), torch.tensor([0.1])])
def test_a_score_survives_as_a_plain_number(value: torch.Tensor) -> None:
    score = as_score(value)
    assert score.shape == ()
    assert torch.equal(as_score(score.item()), score)
    assert as_score(score.item()).dtype == score.dtype


def test_nan_and_infinity_are_scores() -> None:
    assert as_score(math.nan).isnan()
    assert as_score(math.inf) == math.inf


def test_a_missing_metric_names_what_there_is_and_what_was_meant() -> None:
    error = missing_metric_error("val/los", ["val/loss", "train/loss"], "EarlyStopping")
    assert isinstance(error, MetricError)
    assert str(error).splitlines() == [
        "EarlyStopping: no metric 'val/los' has been logged.",
        "    logged       train/loss, val/loss",
        "    did you mean 'val/loss'?",
    ]


def test_a_metric_like_no_other_is_to_be_logged() -> None:
    assert "to do        self.log('val/loss', ...)" in str(missing_metric_error("val/loss", [], "EarlyStopping"))


@pytest.mark.parametrize("monitor", ["", None, 3])
def test_a_monitor_is_a_name(monitor: object) -> None:
    with pytest.raises(ConfigError, match=r"monitor=.* must be the name of a logged metric"):
        check_monitor(monitor, "EarlyStopping")


def test_a_mode_is_min_or_max() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'max'"):
        check_mode("maxx", "EarlyStopping")
