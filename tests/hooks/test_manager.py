from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from trainkit.errors import HookError, PluginError, UnknownNameError
from trainkit.hooks import HookManager, hookimpl
from trainkit.hooks.manager import STAGES


class Net:
    """Stands for the user's module."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def on_fit_start(self) -> None:
        self.log.append("net")


class Note:
    """Writes its label down at ``on_fit_start``."""

    def __init__(self, log: list[str], label: str, stage: str = "observe") -> None:
        self.log, self.label, self.stage = log, label, stage

    def on_fit_start(self) -> None:
        self.log.append(self.label)


class Stateful:
    def __init__(self, state_key: str | None = None) -> None:
        if state_key is not None:
            self.state_key = state_key

    def state_dict(self) -> dict[str, Any]:
        return {}


def called(manager: HookManager, log: list[str]) -> list[str]:
    log.clear()
    manager.hooks.on_fit_start()
    return list(log)


def test_stages_order_plugins_and_the_first_listed_of_a_stage_is_called_first() -> None:
    log: list[str] = []
    manager = HookManager()
    for stage in reversed(STAGES):
        manager.register(Note(log, f"{stage} 1", stage))
        manager.register(Note(log, f"{stage} 2", stage))
    manager.attach(object(), Net(log))
    expected = [f"{stage} {number}" for stage in STAGES for number in (1, 2)]
    expected.insert(expected.index("observe 1"), "net")
    assert called(manager, log) == expected
    assert [getattr(plugin, "label", "net") for _, plugin in manager.plugins] == expected
    assert manager.order("on_fit_start") == [name for name, _ in manager.plugins]


def test_tryfirst_and_trylast_win_over_stages() -> None:
    log: list[str] = []

    class First(Note):
        @hookimpl(tryfirst=True)
        def on_fit_start(self) -> None:
            super().on_fit_start()

    class Last(Note):
        @hookimpl(trylast=True)
        def on_fit_start(self) -> None:
            super().on_fit_start()

    manager = HookManager()
    for plugin in (Last(log, "last", "setup"), Note(log, "middle"), First(log, "first", "persist")):
        manager.register(plugin)
    manager.attach(object(), Net([]))
    assert called(manager, log) == ["first", "middle", "last"]


def test_a_plugin_registered_in_mid_run_lands_at_its_place() -> None:
    log: list[str] = []
    manager = HookManager()
    manager.register(Note(log, "a", "modify"))
    manager.register(Note(log, "c", "persist"))
    manager.attach(object(), Net([]))
    manager.register(Note(log, "b", "observe"))
    assert called(manager, log) == ["a", "b", "c"]
    manager.unregister(manager.plugins[0][0])
    assert called(manager, log) == ["b", "c"]


def test_joining_and_leaving_from_within_a_hook_take_effect_at_its_next_call() -> None:
    log: list[str] = []
    manager = HookManager()

    class Changes(Note):
        def on_fit_start(self) -> None:
            super().on_fit_start()
            if not manager.is_registered("newcomer"):
                manager.register(Note(log, "new", "persist"), name="newcomer")
                manager.unregister("leaver")

    manager.register(Changes(log, "changes"))
    manager.register(Note(log, "leaves"), name="leaver")
    manager.attach(object(), Net([]))
    assert called(manager, log) == ["changes", "leaves"]
    assert called(manager, log) == ["changes", "new"]


class Asks:
    def on_train_batch_end(self, trainer: Any, outputs: Any) -> None: ...


class AsksAsModule:
    def on_train_batch_end(self, *values: Any) -> None: ...


class AsksForLess:
    def on_train_batch_end(self, batch: Any, module: Any) -> None: ...

    def on_validation_batch_end(self, outputs: Any) -> None: ...


@pytest.mark.parametrize(
    ("plugin", "module", "expected"),
    [(Asks(), Stateful(), True), (AsksForLess(), AsksAsModule(), True), (AsksForLess(), Stateful(), False)],
)
def test_it_is_known_whether_anybody_asks_for_the_outputs_of_a_step(plugin: Any, module: Any, expected: bool) -> None:
    manager = HookManager()
    manager.register(plugin)
    assert manager.attach(object(), module).asks_for_outputs is expected
    manager.unregister(plugin)
    assert manager.hooks.asks_for_outputs is isinstance(module, AsksAsModule)


def test_evaluation_views_follow_too() -> None:
    log: list[str] = []
    manager = HookManager()
    view = manager.attach(object(), Net([])).validation

    class Late:
        def on_validation_batch_start(self, dataloader_idx: int) -> None:
            log.append(f"loader {dataloader_idx}")

    plugin = Late()
    manager.register(plugin)
    view.batch_start("batch", 0, 7)
    manager.unregister(plugin)
    view.batch_start("batch", 0, 8)
    assert log == ["loader 7"]


def test_attach_binds_trainer_and_module_and_detach_lets_them_go() -> None:
    seen: list[Any] = []

    class Looks:
        def on_fit_start(self, trainer: Any, module: Any) -> None:
            seen.append((trainer, module))

    manager = HookManager()
    manager.register(Looks())
    hooks = manager.attach("trainer", module := Net([]))
    hooks.on_fit_start()
    assert seen == [("trainer", module)]
    assert manager.plugins[0] == ("Net", module)
    manager.detach()
    hooks.on_fit_start()
    assert len(seen) == 1 and not manager.is_registered(module)
    assert manager.attach("trainer", Net([])) is hooks


def test_attaching_another_module_replaces_the_first() -> None:
    manager = HookManager()
    manager.attach(object(), first := Net([]))
    manager.attach(object(), second := Net([]))
    assert [plugin for _, plugin in manager.plugins] == [second] and not manager.is_registered(first)


def test_names_come_from_the_caller_the_plugin_or_its_class() -> None:
    class Named:
        name = "own"

    class Logger:
        @property
        def name(self) -> str:
            raise AssertionError("evaluated: this one names a folder")

    manager = HookManager()
    assert manager.register(Logger()) == "Logger"
    assert manager.register(Logger()) == "Logger-2"
    assert manager.register(Named()) == "own"
    assert manager.register(Named(), name="given") == "given"


@pytest.mark.parametrize("plugin", [None, "early_stopping", 3, [], print])
def test_what_can_have_no_hooks_is_no_plugin(plugin: object) -> None:
    with pytest.raises(PluginError, match=re.escape(f"{plugin!r} is no plugin")):
        HookManager().register(plugin)


def test_one_name_or_one_object_twice_is_an_error() -> None:
    manager = HookManager()
    manager.register(plugin := Note([], "a"), name="note")
    with pytest.raises(PluginError, match="two plugins are named 'note': Note .tests.hooks.test_manager. and Stateful"):
        manager.register(Stateful(), name="note")
    with pytest.raises(PluginError, match="this Note is registered already: 'note'"):
        manager.register(plugin, name="again")
    assert manager.plugins == [("note", plugin)]


def test_two_with_one_state_key_may_join() -> None:
    manager = HookManager()
    assert [manager.register(Stateful("a")) for _ in range(2)] == ["Stateful", "Stateful-2"]


def test_an_unknown_stage_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown plugin stage 'observes'(.|\n)*Note.stage(.|\n)*'observe'"):
        HookManager().register(Note([], "a", "observes"))


def test_equal_plugins_that_cannot_be_hashed_are_two_plugins() -> None:
    log: list[int] = []

    @dataclass
    class Equal:
        value: int = 1

        def on_fit_start(self) -> None:
            log.append(id(self))

    first, second = Equal(), Equal()
    manager = HookManager()
    manager.register(first)
    manager.register(second)
    manager.attach(object(), Net([]))
    manager.hooks.on_fit_start()
    assert log == [id(first), id(second)]
    manager.unregister(first)
    assert manager.is_registered(second) and not manager.is_registered(first)


def test_a_refused_plugin_leaves_everything_as_it_was() -> None:
    class HalfRight(Note):
        stage = "setup"

        def on_fit_start(self) -> None: ...

        def on_train_end(self, wrong: Any) -> None: ...

    log: list[str] = []
    manager = HookManager()
    manager.register(Note(log, "a"))
    manager.attach(object(), Net(log))
    before = manager.plugins
    with pytest.raises(HookError, match="asks for 'wrong'"):
        manager.register(HalfRight(log, "half"))
    assert manager.plugins == before
    assert called(manager, log) == ["net", "a"]
    assert manager.order("on_train_end") == []


def test_a_plugin_that_only_pluggy_refuses_leaves_everything_as_it_was() -> None:
    def hiding_its_argument(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(self: Any) -> Any:
            return function(self, "injected")

        call.__signature__ = inspect.signature(lambda self: None)  # type: ignore[attr-defined]
        return call

    class Odd(Note):
        def on_fit_end(self) -> None: ...

        @hiding_its_argument
        def on_train_end(self, injected: str) -> None: ...

    log: list[str] = []
    manager = HookManager()
    manager.register(Note(log, "a"))
    manager.register(Note(log, "b", "persist"))
    manager.attach(object(), Net(log))
    with pytest.raises(HookError, match="injected"):
        manager.register(Odd(log, "odd"))
    assert called(manager, log) == ["net", "a", "b"]
    assert manager.order("on_fit_start") == ["Net", "Note", "Note-2"]
    assert manager.order("on_fit_end") == []


def test_replace_puts_plugins_in_the_place_of_others_and_back() -> None:
    log: list[str] = []
    a, b, c, new = (Note(log, label) for label in ("a", "b", "c", "new"))
    manager = HookManager()
    manager.replace([], [a, b, c])
    manager.attach(object(), Net([]))
    manager.replace([b], [new])
    assert called(manager, log) == ["a", "new", "c"]
    manager.replace([new], [b])
    assert called(manager, log) == ["a", "b", "c"]


def test_replace_happens_as_a_whole_or_not_at_all() -> None:
    class Wrong:
        def on_fit_start(self, wrong: Any) -> None: ...

    log: list[str] = []
    manager = HookManager()
    manager.register(a := Note(log, "a"))
    with pytest.raises(HookError):
        manager.replace([a], [Note(log, "b"), Wrong()])
    assert manager.plugins == [("Note", a)]


def test_a_blocked_plugin_stays_out() -> None:
    log: list[str] = []
    manager = HookManager()
    manager.register(plugin := Note(log, "a"), name="note")
    manager.attach(object(), Net([]))
    manager.block("note")
    assert called(manager, log) == [] and not manager.is_registered(plugin)
    assert manager.register(plugin, name="note") == "note"
    assert called(manager, log) == []


def test_removing_what_is_not_there_names_what_is() -> None:
    manager = HookManager()
    manager.register(Note([], "a"), name="note")
    with pytest.raises(UnknownNameError, match="did you mean 'note'"):
        manager.unregister("notes")
    with pytest.raises(PluginError, match=r"Stateful is not registered\. Registered: note"):
        manager.unregister(Stateful())


def test_asking_for_the_order_of_an_unknown_hook_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'on_fit_start'"):
        HookManager().order("on_fit_strat")


def test_wrappers_come_first_in_the_order_of_a_hook() -> None:
    class Wraps:
        stage = "persist"

        @hookimpl(wrapper=True)
        def on_fit_start(self) -> Any:
            return (yield)

    manager = HookManager()
    manager.register(Note([], "a"))
    manager.register(Wraps())
    assert manager.order("on_fit_start") == ["Wraps", "Note"]


def test_a_plugin_without_dict_and_one_that_is_a_class_can_take_part() -> None:
    log: list[str] = []

    class Slots:
        __slots__ = ()

        def on_fit_start(self) -> None:
            log.append("slots")

    class Static:
        @staticmethod
        def on_fit_start(trainer: str) -> None:
            log.append(f"static {trainer}")

    manager = HookManager()
    names: Sequence[str] = [manager.register(Slots()), manager.register(Static)]
    manager.attach("trainer", Net([]))
    assert called(manager, log) == ["slots", "static trainer"]
    assert names == ["Slots", "Static"]


def test_an_error_of_a_plugins_own_property_tells_whose_registration_failed() -> None:
    class Odd:
        @property
        def stage(self) -> str:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        HookManager().register(Odd())
    assert caught.value.__notes__ == ["while Odd was registered as a plugin"]
