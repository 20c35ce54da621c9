from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from trainkit.cli.verify_resume import _shortened
from trainkit.config import read
from trainkit.testing.trace import STOPS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # a dozen processes, one after the other

Run = Callable[..., Result]

FORGETFUL = """
    from models import *

    class Forgetful(TinyModule):
        steps = 0

        def training_step(self, batch, batch_idx):
            self.steps += 1
            return super().training_step(batch, batch_idx) * self.steps
"""

DICING = """
    import secrets
    from models import *

    class Dicing(TinyModule):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * (1 + secrets.randbits(20))
"""


def test_a_run_that_continues_exactly_passes_at_every_place(trainkit_in_project: Run) -> None:
    result = trainkit_in_project(
        "verify-resume", "config.yaml", "--steps", "6", "trainer.accumulate_grad_batches=2", "--keep", "kept"
    )
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    places = [line.partition(" (")[0].strip() for line in lines if line.endswith("equal")]
    assert sorted(places) == sorted(STOPS.values())
    assert lines[-1] == "it continues exactly"
    assert Path("kept/whole/end.ckpt").is_file()
    assert not Path("trainkit_logs").exists()


def test_what_no_checkpoint_holds_is_named_with_a_likely_cause(trainkit_in_project: Run) -> None:
    Path("forgetful.py").write_text(textwrap.dedent(FORGETFUL))
    result = trainkit_in_project(
        "verify-resume",
        "config.yaml",
        "--steps",
        "4",
        "module._target_=forgetful.Forgetful",
        "trainer.limit_val_batches=0",
    )
    assert result.exit_code == 1
    assert "first        epoch 0, batch 1: loss\n" in result.output
    assert "likely cause training_step depends on an attribute that is neither parameter nor buffer" in result.output
    assert "DIFFERS" in result.output
    assert "not tried, as the run never was there: within an accumulation group, in the middle" in result.output
    assert result.output.endswith("it does not continue exactly from 2 of 2\n")
    assert max(map(len, result.output.splitlines())) <= 110


def test_two_runs_that_differ_from_the_start_are_not_blamed_on_resuming(trainkit_in_project: Run) -> None:
    Path("dicing.py").write_text(textwrap.dedent(DICING))
    result = trainkit_in_project("verify-resume", "config.yaml", "--steps", "4", "module._target_=dicing.Dicing")
    assert result.exit_code == 1
    assert "    DIFFERENT\n        first        epoch 0, batch 0: loss\n" in result.output
    assert "this has nothing to do with resuming" in " ".join(result.output.split())


def test_a_run_that_fails_shows_its_own_error(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("verify-resume", "config.yaml", "module._target_=models.Broken")
    assert result.exit_code == 1
    assert "training_step returned str, in which there is no loss tensor" in result.output


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ([], {"limit_train_batches": "10", "limit_val_batches": "3", "logger": "false", "log_every_n_steps": "1"}),
        (["limit_train_batches=4", "limit_val_batches=0"], {"limit_train_batches": "4", "limit_val_batches": "0"}),
        (
            ["limit_train_batches=0.5", "val_check_interval=500"],
            {"limit_train_batches": "10", "val_check_interval": "5"},
        ),
        (["val_check_interval=500 steps"], {"val_check_interval": "5"}),
        (["max_epochs=1"], {"max_epochs": "2"}),
    ],
)
def test_epochs_are_shortened_and_never_lengthened(
    trainkit_in_project: Run, trainer: list[str], expected: dict[str, str]
) -> None:
    config = read("config.yaml", [f"trainer.{override}" for override in trainer])
    overrides = dict(override.removeprefix("trainer.").split("=") for override in _shortened(config, 20))
    assert expected.items() <= overrides.items()


@pytest.mark.parametrize("devices", ["2", "[0, 1]"])
def test_several_ranks_are_refused(trainkit_in_project: Callable[..., Result], devices: str) -> None:
    result = trainkit_in_project("verify-resume", "config.yaml", f"trainer.devices={devices}")
    assert result.exit_code == 2 and "verify-resume compares runs of one process" in result.output
