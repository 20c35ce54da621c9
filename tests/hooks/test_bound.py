from __future__ import annotations

import inspect
import operator
from typing import Any

import pytest

from trainkit.hooks import BoundHooks, HookManager, specs
from trainkit.hooks.bound import EvaluationHooks
from trainkit.hooks.specs import HOOKS, STEP_HOOKS


class Net:
    """Stands for the user's module."""


def attached(*plugins: object) -> tuple[HookManager, BoundHooks]:
    manager = HookManager()
    for plugin in plugins:
        manager.register(plugin)
    return manager, manager.attach("trainer", Net())


def declared(hook: str) -> str:
    """Return the annotation that follows from the declaration of ``hook`` in specs.py."""
    signature = inspect.signature(getattr(specs, hook))
    arguments = ", ".join(parameter.annotation for parameter in list(signature.parameters.values())[2:])
    if not hook.startswith("around_"):
        return f"Hook[[{arguments}]]"
    result = signature.return_annotation.removeprefix("Generator[").removesuffix("]").rpartition(", ")[2]
    return f"AroundHook[[{arguments}], {result}]"


@pytest.mark.parametrize("hook", HOOKS)
def test_type_checkers_know_the_arguments_that_specs_declare(hook: str) -> None:
    # `fit` takes what plugins cannot ask for.
    expected = "AroundHook[..., None]" if hook == "around_fit" else declared(hook)

    assert BoundHooks.__annotations__[hook] == expected


@pytest.mark.parametrize("stage", ["validation", "test", "predict"])
def test_type_checkers_know_the_views_of_evaluation(stage: str) -> None:
    hooks = {hook.removeprefix(f"on_{stage}_"): hook for hook in HOOKS if hook.startswith(f"on_{stage}_")}

    assert EvaluationHooks.__annotations__ == {event: declared(hook) for event, hook in hooks.items()}


def test_nothing_but_hooks_is_declared() -> None:
    assert set(BoundHooks.__annotations__) - set(HOOKS) == {
        "asks_for_outputs", "joined_in_step", "validation", "test", "predict",
    }  # fmt: skip


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_nobody_joins_does_nothing_and_adds_no_frame(hook: str) -> None:
    _, hooks = attached()
    call = getattr(hooks, hook)
    if hook.startswith("around_"):
        assert call is operator.call
        assert call(lambda *values: values, 1, 2) == (1, 2)
    else:
        assert call(*HOOKS[hook][2:]) == ()
        assert not call, "so that the hottest places need not call it"


@pytest.mark.parametrize("hook", HOOKS)
def test_it_is_known_whether_a_plugin_joins_within_a_step(hook: str) -> None:
    manager, hooks = attached()
    assert not hooks.joined_in_step
    wrapper = "def hook(self):\n    return (yield)" if hook.startswith("around_") else "def hook(self): ..."
    namespace: dict[str, Any] = {}
    exec(wrapper, namespace)
    name = manager.register(type("Joins", (), {hook: namespace["hook"]})())
    assert hooks.joined_in_step == (hook in STEP_HOOKS)
    manager.unregister(name)
    assert not hooks.joined_in_step


def test_a_hook_that_does_not_exist_is_no_attribute() -> None:
    _, hooks = attached()
    with pytest.raises(AttributeError):
        hooks.on_train_batch_strat("batch", 0)
    with pytest.raises(AttributeError):
        hooks.on_anything = print


def test_the_views_of_evaluation_are_the_hooks_of_that_stage() -> None:
    seen: list[str] = []

    class Looks:
        def on_validation_start(self) -> None:
            seen.append("validation")

        def on_test_epoch_end(self) -> None:
            seen.append("test")

        def on_predict_batch_end(self, outputs: str) -> None:
            seen.append(outputs)

    _, hooks = attached(Looks())
    hooks.validation.start()
    hooks.test.epoch_end()
    hooks.predict.batch_end("predict", "batch", 0, 0)
    hooks.test.start()
    assert seen == ["validation", "test", "predict"]
