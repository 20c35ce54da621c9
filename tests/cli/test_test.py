from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

Run = Callable[..., Result]


def test_test_prints_metrics_of_trained_weights(trainkit_in_project: Run) -> None:
    trainkit_in_project("fit", "config.yaml")

    result = trainkit_in_project("test", "config.yaml", "ckpt_path=last")

    assert result.exit_code == 0, result.output
    assert "test/loss" in result.output
    assert "freshly initialised" not in result.output


def test_test_says_that_weights_are_fresh(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("test", "config.yaml")

    assert result.exit_code == 0, result.output
    assert "freshly initialised" in result.stderr
