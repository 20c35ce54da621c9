from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import trainkit
import trainkit.compat.lightning as pl
from trainkit.errors import HookError
from trainkit.hooks.manager import HookManager
from trainkit.testing import TinyData, TinyModule, quiet_trainer

BATCH_END = ("outputs", "batch", "batch_idx")


class Module(pl.LightningModule, TinyModule):
    """A module in Lightning's words."""


def callback_with(hook: str, method: Callable[..., Any]) -> pl.Callback:
    return type("Mine", (pl.Callback,), {hook: method})()


def called(plugin: object, hook: str, *values: Any) -> None:
    """Call one hook of one plugin, as a run does."""
    manager = HookManager()
    manager.register(plugin)
    getattr(manager.attach("the trainer", TinyModule()), hook)(*values)


def test_names_of_the_hook_bind_by_name_whatever_their_order() -> None:
    seen = []

    class Mine(pl.Callback):
        def on_train_batch_end(self, batch_idx: int, trainer: Any, outputs: Any) -> None:
            seen.append((batch_idx, trainer, outputs))

    called(Mine(), "on_train_batch_end", "outputs", "batch", 3)
    assert seen == [(3, "the trainer", "outputs")]


def test_pl_module_is_the_module() -> None:
    seen = []

    class Mine(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            seen.append((trainer, type(pl_module)))

    called(Mine(), "on_train_start")
    assert seen == [("the trainer", TinyModule)]


@pytest.mark.parametrize(
    ("signature", "received"),
    [
        ("t, m, out, b, i", ["the trainer", "module", "outputs", "batch", 3]),
        ("trainer, model, out, batch, i", ["the trainer", "module", "outputs", "batch", 3]),
        ("t, *rest", ["the trainer", ("module", "outputs", "batch", 3)]),
        ("*everything", [("the trainer", "module", "outputs", "batch", 3)]),
        ("*args, **kwargs", [("the trainer", "module", "outputs", "batch", 3), {}]),
        ("trainer, pl_module, *_", ["the trainer", "module", ("outputs", "batch", 3)]),
        ("t, m, out, b, i, unused=0", ["the trainer", "module", "outputs", "batch", 3, 0]),
        (
            "trainer, pl_module, outputs, batch, batch_idx, unused=0",
            ["the trainer", "module", "outputs", "batch", 3, 0],
        ),
    ],
)
def test_as_many_arguments_as_lightning_passes_bind_by_position(signature: str, received: list[Any]) -> None:
    seen: list[Any] = []
    names = ", ".join(part.strip().lstrip("*").split("=")[0] for part in signature.split(","))
    scope: dict[str, Any] = {"seen": seen}
    exec(f"def on_train_batch_end(self, {signature}): seen.extend([{names}])", scope)

    called(
        callback_with("on_train_batch_end", scope["on_train_batch_end"]), "on_train_batch_end", "outputs", "batch", 3
    )

    def named(value: Any) -> Any:
        return tuple(map(named, value)) if isinstance(value, tuple) else "module" if is_module(value) else value

    assert [named(value) for value in seen] == received


def is_module(value: Any) -> bool:
    return isinstance(value, TinyModule)


def test_the_stage_of_setup_and_teardown_comes_by_name_where_lightning_passes_it_so() -> None:
    seen = []

    class Mine(pl.Callback):
        def setup(self, *args: Any, **kwargs: Any) -> None:
            seen.append((len(args), kwargs))

        def teardown(self, trainer: Any, pl_module: Any, **kwargs: Any) -> None:
            seen.append(kwargs)

    called(Mine(), "setup", "fit")
    called(Mine(), "teardown", "fit")
    assert seen == [(2, {"stage": "fit"}), {"stage": "fit"}]


def test_the_index_of_the_loader_may_be_left_out() -> None:
    seen = []

    class Mine(pl.Callback):
        def on_validation_batch_end(self, t: Any, m: Any, out: Any, b: Any, i: int) -> None:
            seen.append((out, b, i))

    called(Mine(), "on_validation_batch_end", "outputs", "batch", 3, 0)
    assert seen == [("outputs", "batch", 3)]


def test_hooks_of_a_module_get_neither_trainer_nor_module() -> None:
    seen = []

    class Mine(Module):
        def on_train_batch_end(self, out: Any, b: Any, i: int) -> None:
            seen.append(i)

        def on_before_optimizer_step(self, opt: Any) -> None:
            seen.append(type(opt).__name__)

        def on_train_epoch_end(self, *args: Any) -> None:
            seen.append(args)

    quiet_trainer().fit(Mine(), TinyData(2))
    assert seen == ["SGD", 0, "SGD", 1, ()]


def test_decorators_that_keep_the_signature_are_looked_through() -> None:
    seen = []

    def twice(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> None:
            function(*args, **kwargs)
            function(*args, **kwargs)

        return call

    class Mine(pl.Callback):
        @twice
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            seen.append(trainer)

    called(Mine(), "on_train_start")
    assert seen == ["the trainer"] * 2


@pytest.mark.parametrize(
    "signature", ["trainer, model, batch", "a", "trainer, pl_module, outputs, batch, batch_idx, x"]
)
def test_anything_else_is_an_error_that_shows_both_signatures(signature: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"def on_train_batch_end(self, {signature}): pass", scope)
    with pytest.raises(HookError) as error:
        HookManager().register(callback_with("on_train_batch_end", scope["on_train_batch_end"]))
    assert f"Mine.on_train_batch_end({signature})" in str(error.value)
    assert "all of (trainer, module, outputs, batch, batch_idx)" in str(error.value)


def test_stubs_are_there_for_super_and_are_never_called() -> None:
    class Mine(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            super().on_train_start(trainer, pl_module)

    manager = HookManager()
    manager.register(Mine())
    manager.attach("trainer", Module())
    joined = [hook for hook in trainkit.hooks.specs.HOOKS if manager.order(hook)]
    assert joined == ["on_train_start"]


def test_a_class_of_trainkit_keeps_its_place_among_the_plugins_when_it_is_subclassed() -> None:
    class Bar(pl.callbacks.ProgressBar):
        """Its hooks were marked trylast."""

    class Late(pl.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None: ...

    manager = HookManager()
    manager.register(Bar())
    manager.register(Late())
    assert manager.order("on_train_epoch_end") == ["Late", "Bar"]


def test_callbacks_of_lightning_run_under_trainkits_own_trainer() -> None:
    seen = []

    class Mine(pl.Callback):
        def on_train_batch_end(self, t: Any, m: Any, out: Any, b: Any, i: int) -> None:
            seen.append(i)

    quiet_trainer(callbacks=[Mine()]).fit(TinyModule(), TinyData(2))
    assert seen == [0, 1]
