"""Whatever fails or dies while a run saves, a whole checkpoint remains, and the run goes on from it to the same end."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoint.faults import Faults
from trainkit.callbacks import ModelCheckpoint
from trainkit.errors import CheckpointWriteError
from trainkit.storage.files import verify
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer

TOP_K = 2


def fit(folder: Path, *, async_save: bool = False, ckpt_path: str | None = None) -> Any:
    """Train for eight steps, with saves after every second one; two of them displace an older checkpoint."""
    checkpoint = ModelCheckpoint(
        folder, "{step}", "step", mode="max", save_top_k=TOP_K, save_last=True, async_save=async_save
    )
    trainer = quiet_trainer(
        max_epochs=2,
        val_check_interval=2,
        enable_checkpointing=True,
        default_root_dir=folder,
        callbacks=[checkpoint],
    )
    module = TinyModule()
    try:
        trainer.fit(module, TinyData(4), TinyData(2, seed=1), ckpt_path=ckpt_path)
    except CheckpointWriteError as error:
        trainer.failure = error
    return trainer


def go_on(folder: Path, **arguments: Any) -> Any:
    """Continue from what there is, as a restarted job would."""
    for path in folder.glob("*.ckpt"):
        verify(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(starting fresh|nothing is left to train)")
        return fit(folder, ckpt_path="last", **arguments)


def places(calls: list[str]) -> Iterator[int]:
    """Yield the numbers of the calls of two saves, but of the hundreds of writes only some.

    One is the first, before which there is nothing; the other is the first that displaces an older checkpoint.
    """
    files = 0
    for number, name in enumerate(calls, start=1):
        if files in (0, 1, 4, 5) and (name not in ("write", "flush") or number % 23 == 0):
            yield number
        files += name == "replace"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    faults = Faults(lambda owner, name, value: monkeypatch.setattr(owner, name, value, raising=False))
    faults.fail_with(errno.EIO)
    return faults


@pytest.mark.slow
@pytest.mark.parametrize("async_save", [False, True])
def test_a_failure_of_any_call_ends_the_fit_and_the_next_one_goes_on(
    tmp_path: Path, faults: Faults, async_save: bool
) -> None:
    whole = fit(tmp_path / "whole", async_save=async_save)
    calls = faults.calls
    assert {"open", "write", "fsync", "replace", "unlink"} <= set(calls)
    for fail_at in places(calls):
        folder = tmp_path / str(fail_at)
        faults.begin(fail_at)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            broken = fit(folder, async_save=async_save)
        name = faults.calls[fail_at - 1]
        where = f"call {fail_at}, {name}"
        if name == "unlink":
            assert "could not be deleted, and will be tried again" in str(told[0].message), where
        else:
            assert "EIO" in str(broken.failure), where
            saves_before = faults.calls[:fail_at].count("replace") // 2
            # A save beside training that fails is found out by the next one.
            assert broken.global_step <= 2 * (saves_before + (2 if async_save else 1)), where
        faults.begin(0)
        resumed = go_on(folder, async_save=async_save)
        assert_same_weights(resumed.module, whole.module)
        assert len(list(folder.iterdir())) <= TOP_K + 1, where


def test_a_full_disk_ends_the_fit_with_the_path_and_what_to_do(tmp_path: Path, faults: Faults) -> None:
    fit(tmp_path / "whole")
    faults.fail_with(errno.ENOSPC)
    faults.begin(faults.calls.index("replace", len(faults.calls) // 2))
    broken = fit(tmp_path / "full")
    assert str(tmp_path / "full") in str(broken.failure)
    assert "Free some space, or keep fewer checkpoints" in str(broken.failure)
    assert broken.interrupted
    assert 2 <= broken.global_step < 8


DEATHS = """
import os, sys
from pathlib import Path

from tests.checkpoint.faults import Faults
from tests.resume.test_faults import fit, go_on, places
from trainkit.testing import assert_same_weights

def in_child(function, *arguments):
    child = os.fork()
    if child == 0:
        try:
            function(*arguments)
        except BaseException as error:
            print(*arguments, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def resume(folder):
    assert_same_weights(go_on(folder).module, whole.module)
    assert len(os.listdir(folder)) <= 3, os.listdir(folder)

root, faults = Path(sys.argv[1]), Faults()
whole = fit(root / "whole")
faults.die()
codes = []
for die_at in places(list(faults.calls)):
    folder = root / str(die_at)
    faults.begin(die_at)
    codes.append(in_child(fit, folder))
    faults.begin(0)
    codes.append(in_child(resume, folder))
print(len(codes) // 2, "deaths", set(codes[::2]), set(codes[1::2]))
"""


@pytest.mark.slow
def test_a_process_that_dies_at_any_call_is_continued_from_a_whole_checkpoint(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", DEATHS, str(tmp_path)], env=environment, cwd=root, capture_output=True, text=True
    )
    assert done.stdout.endswith("deaths {9} {0}\n"), done.stdout + done.stderr[-3000:]
    assert int(done.stdout.split()[-4]) > 20
