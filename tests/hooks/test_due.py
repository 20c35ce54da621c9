"""What a running hook has yet to call is known, and is called later."""

from __future__ import annotations

import pytest

from trainkit.hooks.due import FINISHED_HOOKS, DueHook, running_hook
from trainkit.hooks.manager import HookManager
from trainkit.hooks.specs import HOOKS


def test_the_hooks_that_a_run_finishes_are_hooks():
    assert set(FINISHED_HOOKS) <= set(HOOKS)


class Plugin:
    def __init__(self, name, calls, manager, looks=False):
        self.name, self.calls, self.manager, self.looks = name, calls, manager, looks
        self.due = None

    def on_train_epoch_end(self):
        self.calls.append(self.name)
        if self.looks:
            self.due = running_hook(self.manager)


def managed(num_plugins, looks_at):
    manager, calls = HookManager(), []
    plugins = [Plugin(f"p{index}", calls, manager, index == looks_at) for index in range(num_plugins)]
    for plugin in plugins:
        manager.register(plugin)
    manager.attach(object(), object())
    return manager, plugins, calls


@pytest.mark.parametrize("num_plugins", [1, 2, 4])
def test_the_rest_is_called_and_nobody_twice(num_plugins):
    for looks_at in range(num_plugins):
        manager, plugins, calls = managed(num_plugins, looks_at)
        assert running_hook(manager) is None
        manager.hooks.on_train_epoch_end()
        rest = [f"p{index}" for index in range(looks_at + 1, num_plugins)]
        assert plugins[looks_at].due == ({"name": "on_train_epoch_end", "plugins": rest} if rest else None)
        assert running_hook(manager) is None
        if rest:
            calls.clear()
            assert DueHook(**plugins[looks_at].due, manager=manager).call({}) == []
            assert calls == rest


def test_a_plugin_that_is_gone_is_passed_over():
    manager, _, calls = managed(2, 0)
    assert DueHook("on_train_epoch_end", ["p1", "gone"], manager).call({}) == []
    assert calls == ["p1"]


def test_a_call_that_failed_is_none_that_is_running():
    manager, _, _ = managed(3, 0)

    class Fails:
        def on_train_epoch_end(self):
            raise RuntimeError

    manager.register(Fails())
    manager.register(Plugin("behind", [], manager))
    with pytest.raises(RuntimeError):
        manager.hooks.on_train_epoch_end()
    assert running_hook(manager) is None


def test_what_an_interrupt_has_left_is_forgotten_with_the_next_call_of_the_trainer():
    manager, _, _ = managed(3, 0)

    class Interrupted:
        def on_train_epoch_end(self):
            raise KeyboardInterrupt

    manager.register(Interrupted())
    manager.register(Plugin("behind", [], manager))
    with pytest.raises(KeyboardInterrupt):
        manager.hooks.on_train_epoch_end()
    assert running_hook(manager) == {"name": "on_train_epoch_end", "plugins": ["behind"]}
    manager.attach(object(), object())
    assert running_hook(manager) is None
