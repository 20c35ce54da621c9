from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch.utils.data import DataLoader

from trainkit.errors import ConfigError, RankError
from trainkit.testing import TinyData, TinyModule, assert_same_state, quiet_trainer, run_on_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


class Odd(Exception):
    """One that can be written by pickle, and not read."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def place(*args: Any) -> tuple[int, int, tuple[Any, ...], int]:
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), args, os.getpid()


def fit(batches: TinyData) -> dict[str, Any]:
    trainer, module = quiet_trainer(max_epochs=2, use_distributed_sampler=False), TinyModule()
    trainer.fit(module, batches)
    total = torch.ones(())
    dist.all_reduce(total)
    return {"weights": module.state_dict(), "strategy": trainer.strategy.name, "total": total}


def fail_on(which: int) -> str:
    rank = int(os.environ["RANK"])
    if rank == which:
        raise ValueError(f"no good on rank {rank}")
    quiet_trainer().fit(TinyModule(), TinyData(1))  # which waits for the other rank
    return "done"


def raise_odd() -> None:
    raise Odd(1, 2)


def hang_on(which: int, folder: Path) -> None:
    (folder / f"{os.getpid()}").touch()
    for _ in DataLoader([0, 1], num_workers=1):  # whose worker is a process too
        while int(os.environ["RANK"]) == which:
            time.sleep(0.1)


def leave(code: int) -> None:
    os._exit(code)


def give_what_cannot_be_sent() -> Any:
    return lambda: None


def test_each_rank_returns_its_own(tmp_path: Path) -> None:
    found = run_on_ranks(place, "a", Path("b"), ranks=3)
    assert [each[:3] for each in found] == [(rank, 3, ("a", Path("b"))) for rank in range(3)]
    assert len({os.getpid(), *(each[3] for each in found)}) == 4


def test_a_trainer_in_it_trains_with_the_other_ranks() -> None:
    one, two = run_on_ranks(fit, TinyData(4))
    assert_same_state(one, two)
    assert (one["strategy"], one["total"]) == ("ddp", 2.0)


@pytest.mark.parametrize("which", [0, 1])
def test_what_a_rank_raises_is_raised_with_its_traceback(which: int) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match=f"no good on rank {which}") as caught:
        run_on_ranks(fail_on, which, timeout_s=90)
    notes = "\n".join(caught.value.__notes__)
    assert f"on rank {which} of 2:\nTraceback" in notes and "in fail_on" in notes
    assert time.monotonic() - began < 80, "the rank that waited was not ended"


def test_an_error_that_cannot_be_sent_is_told() -> None:
    with pytest.raises(RankError, match="rank . of 2 has failed") as caught:
        run_on_ranks(raise_odd)
    assert all(f"on rank {rank} of 2:" in note for rank, note in enumerate(caught.value.__notes__))
    assert "Odd: 1 and 2" in caught.value.__notes__[0]


def test_a_rank_that_hangs_is_ended_and_shows_where_it_stood(tmp_path: Path) -> None:
    with pytest.raises(RankError) as caught:
        run_on_ranks(hang_on, 1, tmp_path, timeout_s=15)
    (note,) = caught.value.__notes__
    assert note.startswith("on rank 1 of 2:\nit had not ended in time.") and "in hang_on" in note
    groups = {int(path.name) for path in tmp_path.iterdir()}
    assert len(groups) == 2 and not groups & set(map(_group, Path("/proc").glob("[0-9]*")))


def test_a_rank_that_has_left_is_an_error() -> None:
    with pytest.raises(RankError) as caught:
        run_on_ranks(leave, 7, ranks=1)
    assert caught.value.__notes__ == ["on rank 0 of 1:\nit has ended with exit code 7, and without a result"]
    assert "exit code 7" in str(caught.value)


def test_a_result_that_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(RankError) as caught:
        run_on_ranks(give_what_cannot_be_sent, ranks=1)
    assert "what it returned cannot be sent back" in caught.value.__notes__[0]
    assert re.fullmatch(
        r"rank 0 of 1 has failed, .*: what it returned cannot be sent back: \w+: .*\.", str(caught.value)
    )


def test_a_function_that_ranks_cannot_import_is_refused() -> None:
    def inner() -> None: ...

    for function, args in ((inner, ()), (lambda: None, ()), (place, (inner,)), (place, (sys.stdout,))):
        with pytest.raises(ConfigError, match="a function at the top of a module"):
            run_on_ranks(function, *args)
    for wrong in ({"ranks": 0}, {"timeout_s": 0}):
        with pytest.raises(ConfigError, match="run_on_ranks"):
            run_on_ranks(place, **wrong)


@pytest.mark.parametrize("given", [3, None, "place", [], object()])
def test_what_is_no_function_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="function="):
        run_on_ranks(given)


IN_NO_FILE = """
from trainkit.testing import run_on_ranks
import types, sys

class Mine: ...

def rank(*args): ...

def outer(): ...

outer.__module__ = "made_by_hand"
sys.modules["made_by_hand"] = types.ModuleType("made_by_hand")
sys.modules["made_by_hand"].outer = outer
for function, args in ((rank, ()), (outer, ()), (print, (Mine,)), (print, ([Mine()],))):
    try:
        run_on_ranks(function, *args)
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("how", ["-c", "-", "/dev/stdin"])
def test_what_is_in_no_file_is_refused_at_once(how: str, tmp_path: Path) -> None:
    command = [sys.executable, how, *([IN_NO_FILE] if how == "-c" else [])]
    done = subprocess.run(command, input=IN_NO_FILE, capture_output=True, text=True, cwd=tmp_path)
    told = [line for line in done.stdout.splitlines() if line.startswith("ConfigError")]
    assert [("which is no file" in line, "cannot send" in line) for line in told] == [(True, True)] * 4, done
    assert "move it into a file" in done.stdout


def test_no_rank_is_left_where_the_test_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.testing.test_ranks import hang_on\nfrom trainkit.testing import run_on_ranks\n"
        "run_on_ranks(hang_on, 1, Path(sys.argv[1]))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
    limit = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < limit:
        time.sleep(0.05)
    process.kill()
    process.wait()
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    while any(_group(Path(f"/proc/{pid}")) for pid in pids) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(_group(Path(f"/proc/{pid}")) for pid in pids)


def _group(process: Path) -> int:
    """Return the process group of one that runs; 0 where it is gone, or only waits for its parent to notice."""
    try:
        state, _, group, *_ = (process / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if state == "Z" else int(group)


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_functions_of_a_test_file_are_found_however_it_was_imported(mode: str, tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "inner"
    folder.mkdir(parents=True)
    (folder / "test_mine.py").write_text(
        "import os\nfrom trainkit.testing import run_on_ranks\n\n"
        "class Mine: ...\n\ndef rank(mine):\n    assert type(mine) is Mine\n    return os.environ['RANK'], Mine()\n\n"
        "def test_mine():\n    (a, b), (c, d) = run_on_ranks(rank, Mine())\n"
        "    assert (a, c) == ('0', '1') and type(b) is type(d) is Mine\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--import-mode={mode}", str(folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]


def test_a_script_calls_it_too(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "import os\nfrom trainkit.testing import run_on_ranks\n\ndef rank():\n    return os.environ['RANK']\n\n"
        "if __name__ == '__main__':\n    print(run_on_ranks(rank))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "['0', '1']\n", done.stderr
