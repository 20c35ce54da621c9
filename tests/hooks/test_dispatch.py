from __future__ import annotations

import sys
import traceback
from collections.abc import Generator
from typing import Any

import pytest

from trainkit.errors import HookError
from trainkit.hooks import BoundHooks, HookManager, hookimpl


class Net:
    """Stands for the user's module."""


def attached(*plugins: object) -> tuple[HookManager, BoundHooks]:
    manager = HookManager()
    for plugin in plugins:
        manager.register(plugin)
    return manager, manager.attach("trainer", Net())


def notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


@pytest.mark.parametrize("others", [0, 1])
def test_plugins_get_the_arguments_they_name_however_they_take_them(others: int) -> None:
    seen: list[Any] = []

    class Takes:
        def on_validation_batch_end(self, batch_idx: int, trainer: str, /, outputs: str) -> None:
            seen.append((batch_idx, trainer, outputs))

        def on_test_batch_end(self, outputs: str, verbose: bool = False, *, dataloader_idx: int = -1) -> None:
            seen.append((outputs, verbose, dataloader_idx))

        def on_predict_batch_end(self, outputs: str, batch: str, batch_idx: int, dataloader_idx: int = 0) -> None:
            seen.append((outputs, batch, batch_idx, dataloader_idx))

        def on_fit_start(self) -> None:
            seen.append(())

    _, hooks = attached(Takes(), *(Takes() for _ in range(others)))
    for hook, expected in (
        ("on_validation_batch_end", (5, "trainer", "outputs")),
        ("on_test_batch_end", ("outputs", False, 9)),
        ("on_predict_batch_end", ("outputs", "batch", 5, 9)),
    ):
        seen.clear()
        getattr(hooks, hook)("outputs", "batch", 5, 9)
        assert seen == [expected] * (1 + others)
    seen.clear()
    hooks.on_fit_start()
    assert seen == [()] * (1 + others)


def test_results_that_are_not_none_come_back_in_the_order_of_the_calls() -> None:
    class Answers:
        def __init__(self, answer: Any) -> None:
            self.answer = answer

        def on_train_batch_start(self) -> Any:
            return self.answer

    for answers, expected in (([-1], [-1]), ([None], []), ([0, None, -1], [0, -1]), ([None, None], [])):
        _, hooks = attached(*map(Answers, answers))
        assert hooks.on_train_batch_start("batch", 0) == expected


class Around:
    """Writes down when ``around_training_step`` is entered and left, and may do something to the result."""

    def __init__(self, log: list[Any], label: str) -> None:
        self.log, self.label = log, label

    def around_training_step(self, module: Any, batch_idx: int) -> Generator[None, Any, Any]:
        self.log.append((self.label, "in", batch_idx))
        try:
            result = yield
        except ValueError as error:
            self.log.append((self.label, "failed", str(error)))
            raise
        self.log.append((self.label, "out", result))
        return f"{result} {self.label}"


def test_around_hooks_nest_the_first_outermost_and_hand_on_the_result() -> None:
    log: list[Any] = []
    _, hooks = attached(Around(log, "a"), Around(log, "b"))
    assert hooks.around_training_step(lambda batch, batch_idx: f"{batch} {batch_idx}", "batch", 3) == "batch 3 b a"
    assert log == [("a", "in", 3), ("b", "in", 3), ("b", "out", "batch 3"), ("a", "out", "batch 3 b")]


def test_an_around_hook_may_go_around_something_with_arguments_of_its_own() -> None:
    log: list[Any] = []

    class Fits:
        def around_fit(self, trainer: str) -> Generator[None, None, None]:
            log.append(trainer)
            yield

    _, hooks = attached(Fits())
    hooks.around_fit(lambda *values: log.append(values), "run", "hooks", "loaders")
    assert log == ["trainer", ("run", "hooks", "loaders")]


def test_an_exception_from_inside_passes_through_wrappers_unchanged_and_without_blame() -> None:
    log: list[Any] = []
    _, hooks = attached(Around(log, "a"), Around(log, "b"))
    raised = ValueError("of the core")

    def step(batch: Any, batch_idx: int) -> None:
        raise raised

    with pytest.raises(ValueError) as caught:
        hooks.around_training_step(step, "batch", 0)
    assert caught.value is raised and notes(raised) == []
    assert "step" in [frame.name for frame in traceback.extract_tb(raised.__traceback__)]
    assert log[2:] == [("b", "failed", "of the core"), ("a", "failed", "of the core")]


def test_a_stop_iteration_from_inside_comes_out_as_itself() -> None:
    raised = StopIteration("of the core")

    def step(batch: Any, batch_idx: int) -> None:
        raise raised

    _, hooks = attached(Around([], "a"), Around([], "b"))
    with pytest.raises(StopIteration) as caught:
        hooks.around_training_step(step, "batch", 0)
    assert caught.value is raised and notes(raised) == []


def test_a_stop_iteration_may_be_translated() -> None:
    class Translates:
        def around_training_step(self) -> Generator[None, Any, Any]:
            try:
                return (yield)
            except StopIteration as error:
                raise ValueError("translated") from error

    def step(batch: Any, batch_idx: int) -> None:
        raise StopIteration

    _, hooks = attached(Translates())
    with pytest.raises(ValueError, match="translated"):
        hooks.around_training_step(step, "batch", 0)


def test_a_wrapper_may_swallow_an_exception() -> None:
    class Swallows:
        def around_training_step(self) -> Generator[None, Any, Any]:
            try:
                return (yield)
            except ValueError:
                return "saved"

    def step(batch: Any, batch_idx: int) -> None:
        raise ValueError

    _, hooks = attached(Swallows())
    assert hooks.around_training_step(step, "batch", 0) == "saved"


class Malformed:
    """Wrappers that do not yield exactly once."""

    def around_fit(self) -> Generator[None, None, None]:
        if self is None:
            yield

    def around_backward(self) -> Generator[None, None, None]:
        yield
        yield

    def around_save_checkpoint(self) -> Generator[None, None, None]:
        try:
            yield
        except ValueError:
            yield


def test_a_wrapper_that_does_not_yield_exactly_once_is_an_error_that_says_where() -> None:
    _, hooks = attached(Malformed())
    line = Malformed.around_fit.__code__.co_firstlineno
    with pytest.raises(
        HookError, match=rf"Malformed.around_fit returned before its yield(.|\n)*test_dispatch.py:{line}"
    ):
        hooks.around_fit(lambda: None)
    with pytest.raises(HookError, match=r"Malformed\.around_backward yields more than once"):
        hooks.around_backward(lambda loss: None, 1.0)

    def fails(path: str) -> None:
        raise ValueError

    with pytest.raises(HookError, match=r"Malformed\.around_save_checkpoint yields more than once"):
        hooks.around_save_checkpoint(fails, "path")


def test_wrappers_outside_of_one_that_yields_twice_are_left_properly() -> None:
    left: list[str] = []

    class Outside:
        def around_backward(self) -> Generator[None, None, None]:
            try:
                yield
            except HookError as error:
                left.append(type(error).__name__)
                raise

    _, hooks = attached(Outside(), Malformed())
    with pytest.raises(HookError):
        hooks.around_backward(lambda loss: None, 1.0)
    assert left == ["HookError"]


def test_a_wrapper_that_yields_twice_is_closed_before_it_is_reported() -> None:
    closed: list[bool] = []

    class Twice:
        def around_fit(self) -> Generator[None, None, None]:
            try:
                yield
                yield
            finally:
                closed.append(True)

    _, hooks = attached(Twice())
    try:
        hooks.around_fit(lambda: None)
    except HookError:
        assert closed == [True]


def test_an_ordinary_hook_can_be_wrapped() -> None:
    log: list[str] = []

    class Wraps:
        stage = "persist"

        @hookimpl(wrapper=True)
        def on_train_batch_start(self) -> Generator[None, list[Any], list[Any]]:
            log.append("before")
            results = yield
            log.append("after")
            return [*results, "wrapped"]

    class Plain:
        def on_train_batch_start(self) -> int:
            log.append("plain")
            return 1

    _, hooks = attached(Plain(), Wraps())
    assert hooks.on_train_batch_start("batch", 0) == [1, "wrapped"]
    assert log == ["before", "plain", "after"]
    _, hooks = attached(Wraps())
    assert hooks.on_train_batch_start("batch", 0) == ["wrapped"]


class Fails:
    """Raises what it is told to."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_end(self) -> None:
        raise self.error

    def around_training_step(self) -> Generator[None, Any, Any]:
        result = yield
        if result is None:
            raise self.error
        return result

    def around_backward(self) -> Generator[None, Any, Any]:
        raise self.error
        yield


@pytest.mark.parametrize("others", [0, 1])
def test_an_exception_gains_one_note_that_names_plugin_and_hook(others: int) -> None:
    raised = ValueError("broken")
    _, hooks = attached(*(Around([], "other") for _ in range(others)), Fails(raised))
    for call, hook in (
        (lambda: hooks.on_train_end(), "on_train_end"),
        (lambda: hooks.around_training_step(lambda batch, batch_idx: None, "batch", 0), "around_training_step"),
        (lambda: hooks.around_backward(lambda loss: None, 1.0), "around_backward"),
    ):
        raised.__dict__.pop("__notes__", None)
        with pytest.raises(ValueError) as caught:
            call()
        assert caught.value is raised
        assert notes(raised) == [f"in plugin 'Fails' ({__name__}), hook {hook}"]


def test_only_the_plugin_that_raised_is_blamed_when_hooks_nest() -> None:
    class Saves:
        def on_train_start(self) -> None:
            hooks.on_train_end()

    _, hooks = attached(Saves(), Fails(ValueError("broken")))
    with pytest.raises(ValueError) as caught:
        hooks.on_train_start()
    assert notes(caught.value) == [f"in plugin 'Fails' ({__name__}), hook on_train_end"]


def test_a_wrapper_that_raises_something_else_is_blamed_and_keeps_the_cause() -> None:
    class Translates:
        def around_training_step(self) -> Generator[None, Any, Any]:
            try:
                return (yield)
            except ValueError as error:
                raise RuntimeError("translated") from error

    def step(batch: Any, batch_idx: int) -> None:
        raise ValueError("of the core")

    _, hooks = attached(Translates())
    with pytest.raises(RuntimeError) as caught:
        hooks.around_training_step(step, "batch", 0)
    assert notes(caught.value) == [f"in plugin 'Translates' ({__name__}), hook around_training_step"]
    assert isinstance(caught.value.__cause__, ValueError) and notes(caught.value.__cause__) == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(3)])
def test_nobody_is_blamed_for_an_interrupt(interrupt: BaseException) -> None:
    _, hooks = attached(Around([], "a"), Fails(interrupt))
    for call in (
        lambda: hooks.on_train_end(),
        lambda: hooks.around_training_step(lambda batch, batch_idx: None, "batch", 0),
    ):
        with pytest.raises(type(interrupt)) as caught:
            call()
        assert caught.value is interrupt and notes(interrupt) == []


def test_on_exception_reaches_every_plugin_and_never_masks_the_original() -> None:
    seen: list[BaseException] = []

    class Told:
        def on_exception(self, trainer: str, exception: BaseException) -> None:
            seen.append(exception)

    class Stumbles(Told):
        def on_exception(self, trainer: str, exception: BaseException) -> None:
            super().on_exception(trainer, exception)
            raise OSError("disk full")

    class RaisesItAgain(Told):
        def on_exception(self, trainer: str, exception: BaseException) -> None:
            super().on_exception(trainer, exception)
            raise exception

    original = KeyboardInterrupt()
    _, hooks = attached(Stumbles(), RaisesItAgain(), Told())
    hooks.on_exception(original)
    assert seen == [original] * 3
    assert notes(original) == [f"then in plugin 'Stumbles' ({__name__}), hook on_exception: OSError: disk full"]


def test_teardown_reaches_every_plugin_and_raises_what_went_wrong_first() -> None:
    torn_down = []

    class Fails:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def teardown(self, stage: str) -> None:
            torn_down.append(stage)
            raise self.error

    class Fine:
        def teardown(self, stage: str) -> None:
            torn_down.append(stage)

    first = OSError("disk full")
    _, hooks = attached(Fails(first), Fails(ValueError("of another")), Fine())
    with pytest.raises(OSError) as caught:
        hooks.teardown("fit")
    assert caught.value is first
    assert torn_down == ["fit"] * 3
    assert notes(first) == [
        f"in plugin 'Fails' ({__name__}), hook teardown",
        f"then in plugin 'Fails-2' ({__name__}), hook teardown: ValueError: of another",
    ]


def test_an_interrupt_while_plugins_are_told_leaves_at_once() -> None:
    class Interrupted:
        def on_exception(self) -> None:
            raise KeyboardInterrupt

    _, hooks = attached(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        hooks.on_exception(ValueError("broken"))


def test_a_step_runs_at_most_one_frame_deeper_per_wrapper() -> None:
    def depth() -> int:
        frame, count = sys._getframe(), 0
        while frame.f_back is not None:
            frame, count = frame.f_back, count + 1
        return count

    _, bare = attached()
    _, wrapped = attached(Around([], "a"), Around([], "b"))
    plain = bare.around_training_step(lambda batch, batch_idx: depth(), "batch", 0)
    deeper: list[int] = []
    wrapped.around_training_step(lambda batch, batch_idx: deeper.append(depth()), "batch", 0)
    assert deeper == [plain + 2]
