from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

Run = Callable[..., Result]

STOPPING = """
    import os, signal
    from models import *

    class Stopping(TinyModule):
        def __init__(self, number: int = 0, lr: float = 0.1):
            super().__init__(lr=lr)
            self.number = number

        def training_step(self, batch, batch_idx):
            if self.number and self.global_step == 2:
                os.kill(os.getpid(), self.number)
            return super().training_step(batch, batch_idx)
"""


def checkpoints() -> list[Path]:
    """Those that a callback has saved, without the newest states that runs keep."""
    return sorted(path for path in Path().rglob("*.ckpt") if path.name != "last.ckpt")


def test_fit_trains_what_the_file_describes(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("fit", "config.yaml", "data.batches=3")

    assert result.exit_code == 0, result.output
    (checkpoint,) = checkpoints()
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 6


def test_timing_tells_where_the_time_went(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("fit", "config.yaml", "--timing")

    assert result.exit_code == 0, result.output
    assert re.search(r"trainkit: where the \S+ s of fit went", result.output)
    assert "waiting for data" in result.output
    plain = trainkit_in_project("fit", "config.yaml")
    assert "of fit went" not in plain.output


@pytest.mark.parametrize("override", ["plugins.timing=true", "trainer.profiler=simple", "trainer.profiler.use=simple"])
def test_a_configuration_may_ask_for_the_same(override: str, trainkit_in_project: Run) -> None:
    result = trainkit_in_project("fit", "config.yaml", override, "--timing")

    assert result.exit_code == 0, result.output
    assert result.output.count("s of fit went") == 1


def test_a_profiler_takes_arguments_as_other_plugins_do(trainkit_in_project: Run) -> None:
    result = trainkit_in_project(
        "fit", "config.yaml", "trainer.profiler={use: torch, skip: 0, warm_up: 1, active: 1, row_limit: 3}"
    )

    assert result.exit_code == 0, result.output
    assert "the most expensive operators" in result.output
    assert [*Path().rglob("trace-rank0-0.json")] != []
    wrong = trainkit_in_project("fit", "config.yaml", "trainer.profiler={use: torch, skipp: 0}")
    assert wrong.exit_code == 2 and "did you mean 'skip'" in wrong.output


def test_fit_continues_from_the_last_checkpoint(trainkit_in_project: Run) -> None:
    trainkit_in_project("fit", "config.yaml")

    result = trainkit_in_project("fit", "config.yaml", "trainer.max_epochs=3", "ckpt_path=last")

    assert result.exit_code == 0, result.output
    newest = max(checkpoints(), key=lambda path: path.stat().st_mtime_ns)
    assert torch.load(newest, weights_only=True)["global_step"] == 12


def test_run_keeps_its_configuration(trainkit_in_project: Run) -> None:
    trainkit_in_project("fit", "config.yaml", "trainer.max_epochs=1")

    (kept,) = (path for path in Path().rglob("config.yaml") if path.parent != Path())
    assert "max_epochs: 1" in kept.read_text()


@pytest.mark.parametrize("override", ["trainer.fast_dev_run=true", "trainer.logger=false", "trainer.max_epochs=3"])
def test_fit_leaves_the_file_of_the_user_alone(override: str, trainkit_in_project: Run) -> None:
    before = Path("config.yaml").read_text()

    result = trainkit_in_project("fit", "config.yaml", override)

    assert result.exit_code == 0, result.output
    assert Path("config.yaml").read_text() == before
    assert [path.name for path in Path().glob("*.yaml")] == ["config.yaml"]


def test_resumed_run_keeps_the_configuration_that_it_began_with(trainkit_in_project: Run) -> None:
    trainkit_in_project("fit", "config.yaml", "--resume")
    (kept,) = (path for path in Path().rglob("config.yaml") if path.parent != Path())
    before = kept.read_text()

    trainkit_in_project("fit", "config.yaml", "--resume", "trainer.max_epochs=3", "seed=9")

    assert kept.read_text() == before
    assert "seed: 9" in kept.with_name("config-v1.yaml").read_text()
    again = trainkit_in_project("fit", str(kept), "trainer.default_root_dir=again")
    assert again.exit_code == 0
    (weights,) = Path("again").rglob("last.ckpt")
    assert torch.load(weights, weights_only=True)["global_step"] == 8


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_stopped_job_tells_by_its_exit_code_and_the_same_command_goes_on(
    trainkit_in_project: Run, number: int, code: int
) -> None:
    Path("stopping.py").write_text(textwrap.dedent(STOPPING))
    job = ("fit", "config.yaml", "--resume", "module._target_=stopping.Stopping")

    stopped = trainkit_in_project(*job, f"module.number={int(number)}")
    (interrupted,) = Path().rglob("last.ckpt")
    assert torch.load(interrupted, weights_only=True)["global_step"] == 3
    resumed = trainkit_in_project(*job)

    assert stopped.exit_code == code
    given = f"module._target_=stopping.Stopping module.number={int(number)}"
    assert f"to go on: trainkit fit config.yaml {given} --resume" in stopped.output
    assert "Traceback" not in stopped.output
    assert stopped.output.count(signal.Signals(number).name) == 1
    assert "there is no run to continue below" in stopped.output
    assert f"{signal.Signals(number).name}: stopping after the running batch." in stopped.output
    assert resumed.exit_code == 0, resumed.output
    assert "no run to continue" not in resumed.output
    newest = torch.load(max(checkpoints(), key=lambda path: path.stat().st_mtime_ns), weights_only=True)
    assert newest["global_step"] == 8
    trainkit_in_project("fit", "config.yaml", "trainer.default_root_dir=whole")
    (whole,) = Path("whole").rglob("last.ckpt")
    expected = torch.load(whole, weights_only=True)["state_dict"]
    assert all(torch.equal(newest["state_dict"][name], weight) for name, weight in expected.items())


def test_how_a_stopped_job_goes_on_is_told_once_where_progress_is_shown(trainkit_in_project: Run) -> None:
    Path("stopping.py").write_text(textwrap.dedent(STOPPING))
    given = f"module._target_=stopping.Stopping module.number={int(signal.SIGINT)} trainer.enable_progress_bar=true"
    stopped = trainkit_in_project("fit", "config.yaml", *given.split())
    assert f"  continue  trainkit fit config.yaml {given} --resume\n            from " in stopped.output
    assert stopped.output.count("--resume") == 1
    assert "ckpt_path" not in stopped.output


@pytest.mark.parametrize("progress", ["true", "false"])
def test_a_password_is_not_in_the_command_that_goes_on(trainkit_in_project: Run, progress: str) -> None:
    text = textwrap.dedent(STOPPING).replace("lr: float = 0.1):", "lr: float = 0.1, token: str = ''):")
    Path("with_token.py").write_text(text)
    given = [
        "module._target_=with_token.Stopping",
        f"module.number={int(signal.SIGINT)}",
        "module.token=s3cret",
    ]
    stopped = trainkit_in_project("fit", "config.yaml", *given, f"trainer.enable_progress_bar={progress}")
    assert "'module.token=(not shown)'" in stopped.output and "s3cret" not in stopped.output


def test_job_of_which_no_checkpoint_can_be_read_does_not_begin_anew(trainkit_in_project: Run) -> None:
    trainkit_in_project("fit", "config.yaml", "--resume")
    for checkpoint in sorted(Path().rglob("*.ckpt")):
        checkpoint.write_bytes(checkpoint.read_bytes()[:-9])

    result = trainkit_in_project("fit", "config.yaml", "--resume")

    assert result.exit_code == 1
    assert (
        f"none of the checkpoints that there are can be read.\n    {checkpoint.resolve()} is damaged" in result.output
    )


def test_fit_whose_output_nobody_reads_trains_to_its_end(trainkit_in_project: Run) -> None:
    program = f"{sys.executable} -m trainkit fit config.yaml trainer.enable_progress_bar=true"
    command = f"{program} | true; exit ${{PIPESTATUS[0]}}"  # the fixture has made its folder the current one
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)

    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("UserWarning: stdout cannot be written to (Broken pipe)") == 1
    assert "Traceback" not in ended.stderr
    (checkpoint,) = checkpoints()
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 8


@pytest.mark.parametrize("start", [("--resume",), ("ckpt_path=last",)])
def test_values_of_the_configuration_are_taken(trainkit_in_project: Run, start: tuple[str, ...]) -> None:
    trainkit_in_project("fit", "config.yaml")
    job = ("fit", "config.yaml", "trainer.max_epochs=3", "module.lr=0.05", *start)

    result = trainkit_in_project(*job, "--take", "lr")

    assert result.exit_code == 0, result.output
    assert re.search(r"optimizer\.lr +0\.1 +0\.05 +code", result.output)
    newest = torch.load(max(checkpoints(), key=lambda path: path.stat().st_mtime_ns), weights_only=True)
    assert newest["optimizer_states"][0]["param_groups"][0]["lr"] == 0.05


def test_a_configured_value_that_the_checkpoint_overrides_is_told(trainkit_in_project: Run) -> None:
    trainkit_in_project("fit", "config.yaml")

    result = trainkit_in_project("fit", "config.yaml", "trainer.max_epochs=3", "module.lr=0.05", "--resume")

    assert re.search(r"optimizer\.lr +0\.1 +0\.05 +checkpoint", result.output)
    assert "--take lr" in result.output


def test_a_job_that_is_always_resumed_may_take_values_at_its_first_start(trainkit_in_project: Run) -> None:
    result = trainkit_in_project("fit", "config.yaml", "--resume", "--take", "lr")

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "message"), [((), "there is no ckpt_path"), (("--resume",), "did you mean 'lr'")]
)
def test_values_that_cannot_be_taken_are_refused(
    trainkit_in_project: Run, arguments: tuple[str, ...], message: str
) -> None:
    if arguments:
        trainkit_in_project("fit", "config.yaml")

    result = trainkit_in_project("fit", "config.yaml", *arguments, "--take", "lrr")

    assert result.exit_code == 2
    assert message in result.output
