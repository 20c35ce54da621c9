"""Bound hooks against pluggy itself: the same calls in the same order, the same results, the same exceptions."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pluggy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit.errors import HookError
from trainkit.hooks import HookManager, hookimpl
from trainkit.hooks.manager import STAGES
from trainkit.hooks.specs import HOOKS, hookspec

ORDINARY = ("on_fit_start", "on_train_batch_end")
AROUND = "around_training_step"
PLAIN = ("return None", "return", "raise")
WRAPPER = ("pass on", "replace", "raise before", "raise after", "swallow", "translate", "no yield")
ERRORS = (ValueError, StopIteration, RuntimeError, KeyboardInterrupt)


@dataclass(frozen=True)
class Impl:
    """What one implementation of a hook wants and does."""

    arguments: tuple[str, ...]
    num_defaults: int
    does: str
    error: type[BaseException]
    order: str

    @property
    def is_wrapper(self) -> bool:
        return self.does not in PLAIN


@dataclass(frozen=True)
class Plan:
    """A plugin: at which stage it is called, and its implementations by hook."""

    stage: str
    impls: dict[str, Impl]


@pytest.fixture(scope="module", autouse=True)
def no_installed_packages() -> Iterator[None]:
    """Each blame reads the metadata of all installed packages: 80 ms, thousands of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "packages_distributions", dict)
        yield


class Actor:
    """Carries out a plan, and writes down all that happens in ``log`` and who raised what in ``raised``."""

    def __init__(self, plan: Plan, label: str, log: list[Any], raised: dict[int, tuple[str, BaseException]]) -> None:
        self.plan, self.label, self.log, self.raised = plan, label, log, raised
        self.stage = plan.stage

    def act(self, hook: str, values: tuple[Any, ...]) -> Any:
        does = self.plan.impls[hook].does
        self.log.append((self.label, hook, values))
        if does == "raise":
            raise self.error(hook)
        return f"{self.label} {hook}" if does == "return" else None

    def around(self, hook: str, values: tuple[Any, ...]) -> Generator[None, Any, Any]:
        does = self.plan.impls[hook].does
        self.log.append((self.label, hook, "enter", values))
        if does == "raise before":
            raise self.error(hook)
        if does == "no yield":
            return "never seen"
        try:
            result = yield
        except BaseException as error:
            self.log.append((self.label, hook, "thrown", described(error)))
            if does == "swallow":
                return f"{self.label} swallowed"
            if does == "yield twice":
                yield
            if does == "translate":
                raise self.error(hook) from error
            raise
        self.log.append((self.label, hook, "sent", str(result)))
        if does == "raise after":
            raise self.error(hook)
        if does == "yield twice":
            yield
        return [self.label, result] if does == "replace" else result

    def error(self, hook: str) -> BaseException:
        error = self.plan.impls[hook].error(f"{self.label} {hook}")
        self.raised[id(error)] = (self.label, error)
        return error


def actor(plan: Plan, label: str, log: list[Any], raised: dict[int, Any], *, mark_all: bool) -> Actor:
    """Make a plugin whose methods really have the planned arguments: pluggy reads them from the code."""
    methods: dict[str, Any] = {}
    for hook, impl in plan.impls.items():
        call = "(yield from self.around" if impl.is_wrapper else "(self.act"
        values = "".join(f"{argument}, " for argument in impl.arguments)
        exec(f"def {hook}(self, {values}): return {call}({hook!r}, ({values})))", methods)
        num_defaults = min(impl.num_defaults, len(impl.arguments))
        methods[hook].__defaults__ = ("default",) * num_defaults
        options = {"wrapper": impl.is_wrapper} | ({impl.order: True} if impl.order else {})
        if mark_all or impl.order or (impl.is_wrapper and hook != AROUND):
            hookimpl(**options)(methods[hook])
    methods.pop("__builtins__", None)
    return type("Planned", (Actor,), methods)(plan, label, log, raised)


def described(error: BaseException) -> str:
    malformed = isinstance(error, HookError) or str(error).startswith("wrap_controller")
    return "malformed wrapper" if malformed else repr(error)


def outcome(call: Callable[[], Any]) -> tuple[str, Any, BaseException | None]:
    try:
        return "returned", call(), None
    except BaseException as error:
        return "raised", described(error), error


class Step:
    """What the around-hook goes around: the training step of the core."""

    def __init__(self, log: list[Any], error: type[BaseException] | None) -> None:
        self.log, self.error = log, error

    def __call__(self, batch: Any, batch_idx: Any) -> str:
        self.log.append(("core", batch, batch_idx))
        if self.error is not None:
            raise self.error("of the core")
        return "loss"


class Reference:
    """pluggy alone, with the step as the one implementation that is no wrapper."""

    def __init__(self, plans: Sequence[tuple[str, Plan]], step_error: type[BaseException] | None) -> None:
        self.log: list[Any] = []
        self.manager = pluggy.PluginManager("trainkit")
        self.manager.add_hookspecs(ReferenceSpecs)
        step = Step(self.log, step_error)

        class Core:
            @hookimpl
            def around_training_step(self, batch: Any, batch_idx: Any) -> str:
                return step(batch, batch_idx)

        self.manager.register(Core())
        for label, plan in sorted(reversed(plans), key=lambda named: -STAGES.index(named[1].stage)):
            self.manager.register(actor(plan, label, self.log, {}, mark_all=True), name=label)

    def call(self, hook: str) -> tuple[str, Any, BaseException | None]:
        caller = getattr(self.manager.hook, hook)
        return outcome(lambda: caller(**{argument: f"<{argument}>" for argument in HOOKS[hook]}))


class ReferenceSpecs:
    @hookspec
    def on_fit_start(self, trainer: Any, module: Any) -> None: ...

    @hookspec
    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: Any) -> None: ...

    @hookspec(firstresult=True)
    def around_training_step(self, trainer: Any, module: Any, batch: Any, batch_idx: Any) -> None: ...


class Bound:
    """trainkit's own manager, whose plugins come and go while it is attached."""

    def __init__(self, step_error: type[BaseException] | None) -> None:
        self.log: list[Any] = []
        self.raised: dict[int, tuple[str, BaseException]] = {}
        self.step = Step(self.log, step_error)
        self.manager = HookManager()
        self.hooks = self.manager.attach("<trainer>", "<module>")

    def call(self, hook: str) -> tuple[str, Any, BaseException | None]:
        values = [f"<{argument}>" for argument in HOOKS[hook][2:]]
        first = [self.step] if hook == AROUND else []
        how, what, error = outcome(lambda: getattr(self.hooks, hook)(*first, *values))
        return how, list(what) if what == () else what, error


def impls(hook: str, does: Sequence[str]) -> st.SearchStrategy[Impl]:
    arguments = st.lists(st.sampled_from((*HOOKS[hook], "own")), unique=True).map(tuple)
    order = st.sampled_from(["", "", "tryfirst", "trylast"])
    return st.builds(Impl, arguments, st.integers(0, 3), st.sampled_from(does), st.sampled_from(ERRORS), order).filter(
        lambda impl: "own" not in impl.arguments[: len(impl.arguments) - impl.num_defaults]
    )


plans = st.builds(
    Plan,
    st.sampled_from(STAGES),
    st.fixed_dictionaries(
        {}, optional={hook: impls(hook, PLAIN + WRAPPER) for hook in ORDINARY} | {AROUND: impls(AROUND, WRAPPER)}
    ),
)
step_errors = st.sampled_from([None, *ERRORS])


def assert_same(bound: Bound, listed: Sequence[tuple[str, Plan]], step_error: type[BaseException] | None) -> None:
    reference = Reference(listed, step_error)
    for hook in (*ORDINARY, AROUND):
        bound.log.clear()
        reference.log.clear()
        expected = reference.call(hook)
        actual = bound.call(hook)
        assert bound.log == reference.log
        assert actual[:2] == expected[:2]
        assert_blame(actual[2], hook, bound.raised)


def assert_blame(error: BaseException | None, hook: str, raised: dict[int, tuple[str, BaseException]]) -> None:
    """The plugin that raised is named once; the core and interrupts are not blamed."""
    if error is None or isinstance(error, HookError):
        return
    # Python turns a StopIteration that leaves a generator into a RuntimeError.
    source = error if id(error) in raised or error.__cause__ is None else error.__cause__
    label, _ = raised.get(id(source), (None, None))
    expected = [f"in plugin '{label}' ({__name__}), hook {hook}"]
    is_blamed = label is not None and isinstance(error, Exception)
    assert getattr(error, "__notes__", []) == (expected if is_blamed else [])


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.lists(plans, max_size=5), st.lists(st.one_of(plans, st.integers(0, 5)), max_size=3), step_errors)
def test_bound_hooks_do_what_pluggy_does(
    first: list[Plan], changes: list[Plan | int], step_error: type[BaseException] | None
) -> None:
    bound = Bound(step_error)
    listed: list[tuple[str, Plan]] = []

    labels = (f"p{number}" for number in itertools.count())

    def join(plan: Plan) -> None:
        listed.append((next(labels), plan))
        label, _ = listed[-1]
        bound.manager.register(actor(plan, label, bound.log, bound.raised, mark_all=False), name=label)

    for plan in first:
        join(plan)
    assert_same(bound, listed, step_error)
    for change in changes:
        if isinstance(change, Plan):
            join(change)
        elif listed:
            label, _ = listed.pop(change % len(listed))
            bound.manager.unregister(label)
        assert_same(bound, listed, step_error)


@settings(max_examples=100, deadline=None)
@given(st.lists(plans, max_size=3), step_errors)
def test_an_outermost_wrapper_that_yields_twice_ends_like_in_pluggy(
    inner: list[Plan], step_error: type[BaseException] | None
) -> None:
    twice = Impl((), 0, "yield twice", ValueError, "tryfirst")
    outermost = Plan("setup", {hook: twice for hook in (*ORDINARY, AROUND)})
    calm = [
        dataclasses.replace(
            plan, impls={hook: dataclasses.replace(impl, order="") for hook, impl in plan.impls.items()}
        )
        for plan in inner
    ]
    bound = Bound(step_error)
    listed = [(f"p{number}", plan) for number, plan in enumerate([outermost, *calm])]
    for label, plan in listed:
        bound.manager.register(actor(plan, label, bound.log, bound.raised, mark_all=False), name=label)
    assert_same(bound, listed, step_error)
