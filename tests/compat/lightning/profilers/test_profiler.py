from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainkit.compat.lightning import Trainer
from trainkit.compat.lightning.profilers import PassThroughProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from trainkit.errors import UnsupportedError


def test_actions_of_the_users_own_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profiler = SimpleProfiler(tmp_path, "actions")
    for _ in range(2):
        with profiler.profile("augment"):
            pass
    profiler.start("load")
    profiler.stop("load")
    assert {name: len(times) for name, times in profiler.recorded_durations.items()} == {"augment": 2, "load": 1}
    assert [row.split()[:2] for row in profiler.summary().splitlines()[1:]] != []
    profiler.describe()
    assert (tmp_path / "actions.txt").read_text() == profiler.summary() + "\n"
    Profiler().describe()
    assert capsys.readouterr().out == ""  # nothing was measured, and nothing is told
    shown = Profiler()
    with shown.profile("load"):
        pass
    shown.describe()
    assert capsys.readouterr().out.startswith("action")


def test_a_subclass_is_told_of_actions() -> None:
    told = []

    class Tells(Profiler):
        def start(self, action_name: str) -> None:
            told.append(("start", action_name))

        def stop(self, action_name: str) -> None:
            told.append(("stop", action_name))

    with Tells().profile("load"):
        pass
    assert told == [("start", "load"), ("stop", "load")]


def test_one_that_passes_through_measures_nothing() -> None:
    profiler = PassThroughProfiler()
    with profiler.profile("load"):
        pass
    assert profiler.recorded_durations == {}


def test_the_advanced_one_says_what_to_use_instead() -> None:
    with pytest.raises(UnsupportedError, match="or python -m cProfile for functions"):
        Trainer(profiler="advanced", accelerator="cpu", logger=False)


def test_names_make_profilers_of_this_package() -> None:
    common: dict[str, Any] = {"accelerator": "cpu", "logger": False}
    assert isinstance(Trainer(profiler="simple", **common).profiler, SimpleProfiler)
    assert isinstance(Trainer(profiler="pytorch", **common).profiler, PyTorchProfiler)
    assert isinstance(Trainer(**common).profiler, PassThroughProfiler)
    own = Profiler()
    assert Trainer(profiler=own, **common).profiler is own
