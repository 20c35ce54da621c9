from __future__ import annotations

from collections.abc import Callable

import torch
from click.testing import Result

Run = Callable[..., Result]


def test_predict_writes_what_each_batch_gave(trainkit_in_project: Run) -> None:
    trainkit_in_project("fit", "config.yaml")

    result = trainkit_in_project("predict", "config.yaml", "ckpt_path=last", "--output", "out.pt")

    assert result.exit_code == 0, result.output
    assert "predictions written to out.pt" in result.output
    predictions = torch.load("out.pt", weights_only=True)
    assert [tuple(batch.shape) for batch in predictions] == [(3, 2)] * 4


def test_predict_says_that_weights_are_fresh(trainkit_in_project: Run) -> None:
    assert "freshly initialised" in trainkit_in_project("predict", "config.yaml").stderr
