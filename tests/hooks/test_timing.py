from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import trainkit
from trainkit.hooks import HookManager
from trainkit.hooks.timing import HookTimer


class Net:
    """Stands for the user's module."""


class Busy:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_end(self, outputs: Any) -> None:
        self.clock.now += 2.0

    def around_training_step(self) -> Generator[None, Any, Any]:
        self.clock.now += 3.0
        try:
            return (yield)
        finally:
            self.clock.now += 4.0

    def on_train_end(self) -> None:
        self.clock.now += 5.0
        raise ValueError("broken")


class Clock:
    """Time that passes only when somebody says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("trainkit.hooks.timing.perf_counter", clock)
    return clock


@pytest.fixture
def manager(clock: Clock) -> HookManager:
    manager = HookManager()
    manager.register(Busy(clock))
    manager.attach(object(), Net())
    return manager


def spent(manager: HookManager) -> dict[str, tuple[int, float]]:
    return {row.hook: (row.calls, row.seconds) for row in manager.timing.rows()}


def test_off_there_is_no_clock_in_any_call(manager: HookManager, clock: Clock) -> None:
    before = manager.hooks.on_train_batch_end
    before({}, "batch", 0)
    assert spent(manager) == {}
    manager.timing.enable()
    clocked = manager.hooks.on_train_batch_end
    assert clocked is not before
    manager.timing.enable()
    assert manager.hooks.on_train_batch_end is clocked


def test_seconds_and_calls_add_up_by_plugin_and_hook(manager: HookManager, clock: Clock) -> None:
    manager.timing.enable()
    for batch_idx in range(3):
        manager.hooks.on_train_batch_end({}, "batch", batch_idx)
    assert spent(manager) == {"on_train_batch_end": (3, 6.0)}


def test_a_wrapper_is_charged_for_its_own_part_only(manager: HookManager, clock: Clock) -> None:
    def step(batch: Any, batch_idx: int) -> str:
        clock.now += 100.0
        if batch_idx:
            raise ValueError("of the core")
        return "result"

    manager.timing.enable()
    assert manager.hooks.around_training_step(step, "batch", 0) == "result"
    assert spent(manager) == {"around_training_step": (1, 7.0)}
    with pytest.raises(ValueError, match="of the core"):
        manager.hooks.around_training_step(step, "batch", 1)
    assert spent(manager) == {"around_training_step": (2, 14.0)}


def test_a_call_that_raises_is_counted_and_blamed_as_without_a_clock(manager: HookManager) -> None:
    manager.timing.enable()
    with pytest.raises(ValueError) as caught:
        manager.hooks.on_train_end()
    assert spent(manager) == {"on_train_end": (1, 5.0)}
    assert caught.value.__notes__ == [f"in plugin 'Busy' ({__name__}), hook on_train_end"]


def test_a_plugin_that_joins_while_timing_is_on_is_timed(manager: HookManager, clock: Clock) -> None:
    manager.timing.enable()
    manager.register(Busy(clock), name="late")
    manager.hooks.on_train_batch_end({}, "batch", 0)
    assert sorted(row.plugin for row in manager.timing.rows()) == ["Busy", "late"]


def test_the_table_lists_the_most_expensive_first_as_text_and_for_rich(manager: HookManager) -> None:
    manager.timing.enable()
    manager.hooks.on_train_batch_end({}, "batch", 0)
    manager.hooks.around_training_step(lambda batch, batch_idx: None, "batch", 0)
    assert str(manager.timing).splitlines() == [
        "plugin  hook                  calls  seconds  µs per call",
        "Busy    around_training_step      1    7.000    7000000.0",
        "Busy    on_train_batch_end        1    2.000    2000000.0",
    ]
    console = Console(width=100)
    with console.capture() as capture:
        console.print(manager.timing.table())
    lines = capture.get().splitlines()
    assert "Time spent in plugins" in lines[0]
    assert [line.split()[3] for line in lines if "Busy" in line] == ["around_training_step", "on_train_batch_end"]


def test_an_empty_timer_is_a_table_without_rows() -> None:
    timer = HookTimer(on_enable=lambda: None)
    assert str(timer).split() == ["plugin", "hook", "calls", "seconds", "µs", "per", "call"]
    assert timer.table().row_count == 0


def test_rich_is_imported_for_the_table_only() -> None:
    code = "import sys, trainkit.hooks; trainkit.hooks.HookManager(); assert 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(trainkit.__file__).parents[1])


def test_names_of_plugins_are_no_markup_and_act_on_nothing() -> None:
    timer = HookTimer(lambda: None)
    timer.timed(lambda: None, "a[/x]\x1b[2J", "setup", is_wrapper=False)()
    console = Console(width=100)
    with console.capture() as drawn:
        console.print(timer.table())
    assert r"a[/x]\x1b[2J" in drawn.get()
    assert r"a[/x]\x1b[2J" in str(timer)
