from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainkit.errors import ConfigError
from trainkit.profilers import TorchProfiler
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Marks(TinyModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        with self.trainer.profiler.profile("mine"):
            return super().training_step(batch, batch_idx)


def fitted(folder: Path, steps: int = 12, **arguments: Any) -> TorchProfiler:
    profiler = TorchProfiler(**({"skip": 2, "warm_up": 1, "active": 2} | arguments))
    quiet_trainer(max_epochs=1, profiler=profiler, default_root_dir=folder).fit(Marks(), TinyData(steps))
    return profiler


def test_the_active_steps_are_in_a_trace_and_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = fitted(tmp_path, row_limit=30).traces
    assert Path(path).parent.parent == tmp_path
    names = [event.get("name") for event in json.loads(Path(path).read_text())["traceEvents"]]
    assert len([each for each in set(names) if str(each).startswith("ProfilerStep#")]) == 2
    out = capsys.readouterr().out
    assert out.startswith("trainkit: the most expensive operators, by their own time on the CPU")
    (row,) = [line.split() for line in out.splitlines() if "mine" in line]
    assert row[1] == "2"
    assert path in out


def test_each_cycle_has_a_trace(tmp_path: Path) -> None:
    assert len(fitted(tmp_path, wait=1, repeat=2).traces) == 2


def test_behind_the_last_cycle_the_loop_is_as_without_it(tmp_path: Path) -> None:
    joined = []

    class Looks:
        def on_train_batch_start(self, trainer: Any) -> None:
            joined.append("TorchProfiler steps" in trainer.hooks.order("on_train_batch_end"))

    profiler = TorchProfiler(skip=2, warm_up=1, active=2)
    trainer = quiet_trainer(max_epochs=1, profiler=profiler, default_root_dir=tmp_path, callbacks=[Looks()])
    trainer.fit(TinyModule(), TinyData(12))
    assert joined == [True] * 5 + [False] * 7


def test_a_fit_that_is_too_short_is_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="has recorded nothing: the fit has ended before step 5"):
        assert fitted(tmp_path, steps=2).traces == []


def test_an_exception_stops_it_and_the_next_fit_is_recorded(tmp_path: Path) -> None:
    class Fails(TinyModule):
        def on_train_batch_end(self, batch_idx: int) -> None:
            if batch_idx == 3:
                raise LookupError

    profiler = TorchProfiler(skip=2, warm_up=1, active=2)
    trainer = quiet_trainer(max_epochs=1, profiler=profiler, default_root_dir=tmp_path)
    with pytest.raises(LookupError):
        trainer.fit(Fails(), TinyData(12))
    assert "TorchProfiler steps" not in dict(trainer.hooks.plugins)
    trainer.fit(TinyModule(), TinyData(12))
    assert len(profiler.traces) == 1


def test_a_fast_dev_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profiler = TorchProfiler(skip=0, warm_up=1, active=1)
    quiet_trainer(fast_dev_run=3, profiler=profiler, default_root_dir=tmp_path).fit(TinyModule(), TinyData(2))
    assert profiler.traces == [] and [*tmp_path.iterdir()] == []
    assert "operators" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"skip": -1}, "skip=-1"), ({"active": 0}, "active=0"), ({"with_stack": "no"}, "with_stack='no'")],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TorchProfiler(**arguments)
