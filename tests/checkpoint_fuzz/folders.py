"""Sharded checkpoints that were spoiled, used as users do; see `tests.storage.sharded.spoiling`."""

from __future__ import annotations

import random
import resource
import shutil
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tests.checkpoint.sharded.fitting import Net
from tests.checkpoint_fuzz.mutations import in_child
from tests.storage.sharded.spoiling import ACCIDENTS, WORKS
from tests.strategies.started import Ranks
from trainkit.checkpoint.diff import differences
from trainkit.checkpoint.locate import newest_checkpoint
from trainkit.cli.checkpoint import command
from trainkit.storage.files import read_checkpoint
from trainkit.storage.sharded import distributed  # noqa: F401  # ahead of the processes that are forked

USES = ("read", "load", "parts", "last", "verify", "show", "convert", "diff")
MOST_BYTES = 2**32
"""How much more memory than this process has one that reads a spoiled checkpoint may take."""

SCRIPT = str(Path(__file__).parents[1] / "checkpoint" / "sharded" / "fitting.py")


class FolderFuzz:
    """Draws spoiled checkpoints and tries them.

    Args:
        folder: For all files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, epochs in (("one", 1), ("two", 2)):
            job = f'{{"name": "{name}", "max_epochs": {epochs}, "save_to": "{name}.ckpt"}}'
            assert [ended.code for ended in Ranks(SCRIPT, folder, job).ended()] == [0, 0]
        self.valid = read_checkpoint(folder / "one.ckpt")

    def try_one(self, seed: int) -> str:
        """Return what is wrong with how a spoiled checkpoint is met; empty if it is a named error, or all is well."""
        chance = random.Random(seed)
        place = self.folder / str(seed)
        path = place / "spoiled.ckpt"
        shutil.copytree(self.folder / "one.ckpt", path)
        shutil.copytree(self.folder / "two.ckpt", place / "whole.ckpt")
        is_accident = chance.random() < 0.5
        what = chance.choice(ACCIDENTS if is_accident else WORKS)(path, self.folder / "two.ckpt", chance)
        how = chance.choice(USES)
        code, told = in_child(lambda: self._use(how, path, place, is_accident), place)
        shutil.rmtree(place)
        kind = {0: "", 3: ""}.get(code, f"exit code {code}")
        wrong = "; ".join(part for part in (kind, *told) if part)
        return f"{seed}: {how} with {what}: {wrong}" if wrong else ""

    def _use(self, how: str, path: Path, place: Path, is_accident: bool) -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, used + MOST_BYTES))
        if how == "read":
            self._compare(read_checkpoint(path), is_accident)
        elif how == "parts":
            checkpoint = read_checkpoint(path, whole=False)
            weights = {name: each.read() if each.is_meta else each for name, each in checkpoint["state_dict"].items()}
            self._compare({**self.valid, "state_dict": weights}, is_accident)
        elif how == "load":
            module = Net.load_from_checkpoint(path)
            self._compare({**self.valid, "state_dict": dict(module.state_dict())}, is_accident)
        elif how == "last":
            found = newest_checkpoint([place], resumes=True)
            assert found is not None
            # The whole one is further, and is meant in any case.
            assert found.path.endswith("whole.ckpt") or not is_accident, found.path
        else:
            others = {"convert": ["new.ckpt"], "diff": [str(path.with_name("whole.ckpt"))]}.get(how, [])
            result = CliRunner().invoke(command, [how, str(path), *others])
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            if how == "convert" and result.exit_code == 0:
                self._compare(read_checkpoint("new.ckpt"), is_accident)
            elif how == "verify" and result.exit_code == 0:
                self._compare(read_checkpoint(path), is_accident)

    def _compare(self, checkpoint: dict[str, Any], is_accident: bool) -> None:
        found = [*map(str, differences(checkpoint, self.valid))] if is_accident else []
        if found:
            raise AssertionError(f"reads wrong values: {found[:3]}")
