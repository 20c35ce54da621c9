"""Wrappers are generators, and nothing else is one."""

from __future__ import annotations

import functools
from collections.abc import Generator
from typing import Any

import pytest

from tests.hooks.examining import found, plugin_with, refusal
from trainkit.errors import HookError
from trainkit.hooks.implementations import find_implementations
from trainkit.hooks.specs import hookimpl


def test_an_assigned_generator_is_known_for_one() -> None:
    class Wrapper:
        def __call__(self, outputs: Any) -> Generator[None, Any, None]:
            yield

    plugin = plugin_with()
    for value in (Wrapper(), functools.partial(Wrapper().__call__)):
        plugin.on_train_batch_end = value  # type: ignore[attr-defined]
        with pytest.raises(HookError, match="is a generator"):
            find_implementations(plugin)


def test_an_around_hook_needs_no_mark_to_be_a_wrapper() -> None:
    def around_fit(self: Any) -> Generator[None, None, None]:
        yield

    (implementation,) = find_implementations(plugin_with(around_fit=around_fit))
    assert implementation.options["wrapper"]


def test_wrappers_are_generators_and_nothing_else_is() -> None:
    def plain(self: Any) -> None: ...

    def generator(self: Any) -> Generator[None, None, None]:
        yield

    async def coroutine(self: Any) -> None: ...

    assert "is no generator, but this hook runs around something" in refusal(around_fit=plain)
    assert "is a generator, so calling it would run none of it" in refusal(on_fit_start=generator)
    assert "is async" in refusal(on_fit_end=coroutine)
    hookimpl(wrapper=True)(plain)
    assert "is marked wrapper=True, but is no generator" in refusal(on_fit_start=plain)
    hookimpl(wrapper=True)(generator)
    assert found(plugin_with(on_fit_start=generator)) == {"on_fit_start": "on_fit_start"}
    assert "must reach every plugin" in refusal(on_exception=generator)
    hookimpl(hookwrapper=True)(generator)
    assert "is an old-style wrapper" in refusal(on_fit_start=generator)


def test_a_wrapper_may_not_lose_the_result_of_a_step() -> None:
    def forgets(self: Any) -> Generator[None, Any, None]:
        yield

    def forgets_in_detail(self: Any, batch_idx: int) -> Generator[None, Any, None]:
        if batch_idx:
            yield
            return None
        try:
            yield
        finally:
            print("done")

    def hands_on(self: Any) -> Generator[None, Any, Any]:
        return (yield)

    def skips_some(self: Any) -> Generator[None, Any, Any]:
        result = yield
        return result if result else None

    for function in (forgets, forgets_in_detail):
        assert "never returns a value" in refusal(around_training_step=function)
    for function in (hands_on, skips_some):
        assert found(plugin_with(around_training_step=function))
