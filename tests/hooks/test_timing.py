from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.clock import Clock
from trainkit.hooks import HookManager


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("trainkit.hooks.stopwatch.perf_counter", clock)
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


def test_the_most_expensive_comes_first(manager: HookManager) -> None:
    manager.timing.enable()
    manager.hooks.on_train_batch_end({}, "batch", 0)
    manager.hooks.around_training_step(lambda batch, batch_idx: None, "batch", 0)
    assert [row.hook for row in manager.timing.rows()] == ["around_training_step", "on_train_batch_end"]


def test_who_measures_is_not_measured(clock: Clock) -> None:
    manager, owner = HookManager(), Busy(clock)
    manager.register(owner)
    manager.attach(object(), Net())
    manager.timing.enable(owner)
    manager.hooks.on_train_batch_end({}, "batch", 0)
    assert spent(manager) == {}


def test_hooks_of_steps_can_be_timed_in_some_steps_only(manager: HookManager) -> None:
    hooks, timing = manager.hooks, manager.timing
    timing.enable()
    timing.sample(True)
    hooks.on_train_batch_end({}, "batch", 0)
    assert spent(manager) == {}
    timing.step_in_sample(hooks, True)
    assert hooks.joined_in_step
    hooks.on_train_batch_end({}, "batch", 0)
    timing.step_in_sample(hooks, False)
    hooks.on_train_batch_end({}, "batch", 0)
    assert spent(manager) == {"on_train_batch_end": (1, 2.0)}
    with pytest.raises(ValueError):
        hooks.on_train_end()  # is always timed
    assert "on_train_end" in spent(manager)
    timing.sample(False)
    hooks.on_train_batch_end({}, "batch", 0)
    assert spent(manager)["on_train_batch_end"] == (2, 4.0)


def test_a_plugin_that_joins_in_a_measured_step_is_timed_in_it_and_not_behind_it(
    manager: HookManager, clock: Clock
) -> None:
    timing = manager.timing
    timing.enable()
    timing.sample(True)
    timing.step_in_sample(manager.hooks, True)
    manager.register(Busy(clock), name="late")
    manager.hooks.on_train_batch_end({}, "batch", 0)
    timing.step_in_sample(manager.hooks, False)
    manager.hooks.on_train_batch_end({}, "batch", 0)
    assert {row.plugin: row.calls for row in timing.rows()} == {"Busy": 1, "late": 1}


def test_clear_begins_anew_with_the_functions_that_are_bound(manager: HookManager) -> None:
    manager.timing.enable()
    manager.hooks.on_train_batch_end({}, "batch", 0)
    manager.timing.clear()
    assert spent(manager) == {}
    manager.hooks.on_train_batch_end({}, "batch", 0)
    assert spent(manager) == {"on_train_batch_end": (1, 2.0)}
