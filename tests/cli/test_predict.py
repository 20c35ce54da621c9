from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
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


def test_predict_makes_the_folders_of_its_output(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("predict", "config.yaml", "--output", "new/folder/out.pt")

    assert result.exit_code == 0, result.output
    assert len(torch.load("new/folder/out.pt", weights_only=True)) == 4


@pytest.mark.parametrize("output", ["config.yaml/out.pt", ".", "f" * 300])
def test_output_that_cannot_be_written_is_refused_before_anything_is_predicted(
    output: str, trainkit_in_project: Run
) -> None:
    before = Path("config.yaml").read_text()

    result = trainkit_in_project("predict", "config.yaml", "module._target_=models.Unpredictable", "--output", output)

    assert result.exit_code == 2
    assert f"--output {output} cannot be written" in result.stderr
    assert "predicting" not in result.output
    assert Path("config.yaml").read_text() == before


def test_predictions_of_before_stay_if_new_ones_fail(trainkit_in_project: Run) -> None:
    Path("predictions.pt").write_text("of before")

    result = trainkit_in_project("predict", "config.yaml", "module._target_=models.Unpredictable")

    assert isinstance(result.exception, RuntimeError)
    assert Path("predictions.pt").read_text() == "of before"


def test_output_may_be_a_device(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("predict", "config.yaml", "--output", os.devnull)

    assert result.exit_code == 0, result.output
    assert not Path(os.devnull).is_file()


def test_predictions_do_not_replace_the_checkpoint_they_are_made_with(trainkit_in_project: Run) -> None:
    trainkit_in_project("fit", "config.yaml")
    (checkpoint,) = Path().rglob("last.ckpt")
    before = checkpoint.read_bytes()

    result = trainkit_in_project("predict", "config.yaml", f"ckpt_path={checkpoint}", "--output", str(checkpoint))

    assert result.exit_code == 1
    assert "is the checkpoint itself" in result.stderr
    assert checkpoint.read_bytes() == before


def test_predictions_have_the_rights_of_those_before(trainkit_in_project: Run) -> None:
    Path("predictions.pt").touch(0o600)

    assert trainkit_in_project("predict", "config.yaml").exit_code == 0

    assert Path("predictions.pt").stat().st_mode & 0o777 == 0o600
    assert len(torch.load("predictions.pt", weights_only=True)) == 4
