from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import trainkit
from trainkit.hooks import specs
from trainkit.hooks.specs import HOOKS, MODULE_METHODS, USED_RESULTS


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_provides_trainer_and_module_first_and_says_when_it_fires(hook: str) -> None:
    spec = getattr(specs, hook)
    assert HOOKS[hook][:2] == ("trainer", "module")
    assert list(inspect.signature(spec).parameters) == list(HOOKS[hook])
    assert inspect.getdoc(spec)


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook.endswith("_start") and hook.startswith("on_")])
def test_every_start_has_an_end(hook: str) -> None:
    assert hook.removesuffix("_start") + "_end" in HOOKS


def test_the_three_evaluations_have_the_same_hooks_with_the_same_arguments() -> None:
    def of(stage: str) -> dict[str, tuple[str, ...]]:
        return {hook.replace(stage, "..."): arguments for hook, arguments in HOOKS.items() if f"on_{stage}_" in hook}

    assert of("validation") == of("test") == of("predict")
    assert len(of("validation")) == 6


def test_names_with_a_special_meaning_are_hooks_or_are_none() -> None:
    assert set(HOOKS) >= USED_RESULTS
    assert not MODULE_METHODS.keys() & HOOKS.keys()
    assert HOOKS.keys() >= {*MODULE_METHODS.values()}


def test_the_bus_works_without_torch() -> None:
    code = "import sys, trainkit.hooks; assert 'torch' not in sys.modules, sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(trainkit.__file__).parents[1])
