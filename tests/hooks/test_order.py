from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from trainkit.errors import ConfigError, PluginError
from trainkit.hooks import HookManager, hookimpl
from trainkit.hooks.order import asks_of
from trainkit.testing import TinyData, TinyModule, quiet_trainer

CALLS: list[str] = []


def plugin(name: str, **attributes: Any) -> Any:
    def on_fit_start(self: Any) -> None:
        CALLS.append(name)

    return type(name, (), {"on_fit_start": on_fit_start, **attributes})()


@pytest.mark.parametrize("seed", range(40))
def test_a_run_starts_exactly_if_every_plugin_is_called_where_it_has_to_be(seed: int) -> None:
    draw = random.Random(seed)
    names = ["A", "B", "C", "D"]
    asks = {
        name: {each: tuple(draw.sample(names, draw.choice([0, 0, 1, 2]))) for each in ("runs_before", "runs_after")}
        for name in names
    }
    stages = {name: draw.choice(["modify", "observe"]) for name in names}
    plugins = [plugin(name, stage=stages[name], **asks[name]) for name in draw.sample(names, 4)]
    order = [type(each).__name__ for stage in ("modify", "observe") for each in plugins if each.stage == stage]
    fits = all(
        (two not in asks[one]["runs_after"] and one not in asks[two]["runs_before"])
        for one, two in itertools.combinations(order, 2)
    )
    CALLS.clear()
    try:
        quiet_trainer(callbacks=plugins).fit(TinyModule(), TinyData(1))
    except PluginError as error:
        assert not fits and CALLS == []
        first, *_ = str(error).splitlines()
        assert sum(f"{name} (tests.hooks.test_order)" in first for name in names) == 2, first
    else:
        assert fits and order == CALLS


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ({"runs_after": ("Clip",)}, {}, "list Clip ahead of EMA"),
        ({"runs_after": ("Clip",)}, {"stage": "decide"}, "that of EMA is 'observe', that of Clip is 'decide'"),
        ({"runs_after": ["Clip"]}, {"runs_after": ("EMA",)}, "leave out one of them: Clip asks for the opposite"),
    ],
)
def test_the_error_names_both_and_says_what_to_do(one: dict[str, Any], other: dict[str, Any], told: str) -> None:
    manager = HookManager()
    manager.register(plugin("EMA", **one))
    with pytest.raises(PluginError) as caught:
        manager.register(plugin("Clip", **other))
    first, second, third = str(caught.value).splitlines()
    assert first == (
        "EMA (tests.hooks.test_order) has to be called after Clip (tests.hooks.test_order), and is called before it in "
        "on_fit_start."
    )
    assert second == "    asked by     EMA.runs_after = ('Clip',)" and told in third
    assert [name for name, _ in manager.plugins] == ["EMA"]


def test_hooks_that_go_first_are_seen_as_they_are_called() -> None:
    class Clip:
        @hookimpl(tryfirst=True)
        def on_fit_start(self) -> None: ...

    manager = HookManager()
    manager.register(plugin("EMA", runs_before=("Clip",)))
    with pytest.raises(PluginError, match="EMA .* before Clip .* after it in on_fit_start"):
        manager.register(Clip())


def test_those_that_share_no_hook_and_those_that_are_not_there_disturb_nobody() -> None:
    class Clip:
        def on_fit_end(self) -> None: ...

    manager = HookManager()
    for each in (plugin("EMA", runs_after=("Clip", "Nobody")), Clip()):
        manager.register(each)
    assert len(manager.plugins) == 2


@pytest.mark.parametrize("value", ["Clip", 1, [1], None])
def test_what_is_no_list_of_names_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="EMA.runs_after=.* is not usable"):
        HookManager().register(plugin("EMA", runs_after=value))
    assert asks_of(plugin("EMA")) == {}
