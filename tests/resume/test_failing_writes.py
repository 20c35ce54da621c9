"""Output that cannot be written any more: the run goes on, and what is lost is told once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, resource, shutil, sys, time
from trainkit import Trainer
from trainkit.callbacks import Callback, EarlyStopping, ModelCheckpoint
from trainkit.testing import TinyData, TinyModule

root, fault = sys.argv[1:]


def fails(trainer):
    # What is written beside the run is there by now, so that nobody adds to a folder that is being removed.
    while not os.path.exists(os.path.join(trainer.log_dir, "run.json")):
        time.sleep(0.01)
    if fault == "removed":
        shutil.rmtree(trainer.log_dir)
    elif fault == "in the way":
        shutil.rmtree(trainer.log_dir)
        open(trainer.log_dir, "w").close()
    elif fault == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    elif fault == "stdout closed":
        sys.stdout.close()
    elif fault == "both closed":
        sys.stdout.close()
        sys.stderr.close()


class Fault(Callback):
    def on_train_batch_end(self, trainer, module):
        trainer.print("of the trainer")
        module.print("of the module")
        if trainer.global_step == 3:
            fails(trainer)


saves = [] if fault == "full" else [ModelCheckpoint(root + "/kept", verbose=True, every_n_train_steps=2)]
trainer = Trainer(
    default_root_dir=root, max_epochs=2, log_every_n_steps=1, profiler="simple", enable_checkpointing=bool(saves),
    callbacks=[Fault(), EarlyStopping("val/loss", verbose=True, patience=9), *saves],
)
module = TinyModule()
trainer.fit(module, TinyData(4), TinyData(2, seed=1))
if fault not in ("in the way", "full"):  # a call that begins without a folder to write into is an error
    trainer.test(module, TinyData(2))
os.mkdir(root + f"/done {trainer.global_step}")
"""


def run(tmp_path: Path, fault: str, redirection: str = ">/dev/null") -> list[str]:
    """Run the program, see that it came to its end, and return the warnings on stderr."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}'
    arguments = [sys.executable, str(tmp_path / "program.py"), str(tmp_path), fault]
    ended = subprocess.run(["bash", "-c", command, "bash", *arguments], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "done 8").exists()
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    return [line for line in ended.stderr.splitlines() if "Warning: " in line]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("fault", "redirection", "told"),
    [
        ("none", "| head -1", 1),
        ("none", ">/dev/full", 1),
        ("none", ">/dev/full 2>&1", 0),
        ("none", ">&- 2>&-", 0),
        ("stdout closed", "", 1),
        ("both closed", "", 0),
    ],
)
def test_a_run_goes_on_without_its_stdout_and_says_so_once(tmp_path, fault, redirection, told):
    warnings = run(tmp_path, fault, redirection)
    assert len(warnings) == told
    assert all("stdout cannot be written to" in line for line in warnings)


@pytest.mark.parametrize(
    ("fault", "reason"), [("removed", "was removed"), ("in the way", "could not write"), ("full", "could not write")]
)
def test_a_run_goes_on_without_its_folder_and_each_logger_says_so_once(tmp_path, fault, reason):
    warnings = run(tmp_path, fault)
    newest = [line for line in warnings if "last.ckpt" in line]
    assert len(newest) <= 1, "the newest state of the run is there too, and may be back in a new folder"
    record = [line for line in warnings if "what this run was made with" in line]
    assert len(record) <= 1, "so is what it was made with"
    assert len(warnings) == 2 + len(newest) + len(record)
    for logger in ("TensorBoardLogger", "CSVLogger"):
        (line,) = (line for line in warnings if f" {logger}: " in line)
        assert reason in line or "was removed" in line
        assert str(tmp_path / "trainkit_logs" / "version_0") in line


def test_rows_behind_a_removed_folder_are_in_a_new_one(tmp_path):
    run(tmp_path, "removed")
    folder = tmp_path / "trainkit_logs" / "version_0"
    assert {path.name.split(".")[0] for path in folder.iterdir()} >= {"metrics", "events"}
    assert (folder / "metrics.csv").read_text().count("\n") > 4
