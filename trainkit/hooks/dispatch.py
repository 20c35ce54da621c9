"""The hot path: what pluggy holds, turned into plain functions once, so that a call looks nothing up.

`BoundHooks` is what the loops call. Its functions call plugins exactly as pluggy would, held against it by
``tests/hooks/test_differential.py``, with four differences:

- a keyword-only argument is passed, too, if the hook provides it;
- an exception gains a note that names plugin and hook;
- a wrapper that yields twice is reported to the wrappers around it, which pluggy drops;
- ``on_exception`` and ``teardown`` reach every plugin, whatever the others raise.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pluggy import HookImpl

from trainkit.errors import HookError
from trainkit.hooks.attribution import Culprit, in_one_line
from trainkit.hooks.implementations import owner_name, request_of, unbindable
from trainkit.hooks.specs import HOOKS, STEP_HOOKS

if TYPE_CHECKING:
    from trainkit.hooks.timing import Ledger


class Nobody(tuple[()]):
    """What happens at a hook that no plugin joins: no results, whatever it is called with."""

    __slots__ = ()

    def __call__(self, *values: Any) -> Any:
        return self


NOBODY = Nobody()

HookCall = Callable[..., Any] | Nobody


class EvaluationHooks:
    """The hooks of one kind of evaluation, under the names that all kinds share, such as ``batch_start``."""

    __slots__ = ("batch_end", "batch_start", "end", "epoch_end", "epoch_start", "start")

    if TYPE_CHECKING:

        def __getattr__(self, event: str) -> HookCall: ...


class BoundHooks:
    """Every hook as an attribute: a function that calls the plugins of this run, first called first.

    ``trainer`` and ``module`` are bound already, so a loop passes only what is new, by position and in the order of
    the specification: ``hooks.on_train_batch_end(outputs, batch, batch_idx)``. An ordinary hook returns the results
    that are not None. An around-hook first takes what it goes around, and returns its result:
    ``hooks.around_training_step(step, batch, batch_idx)``.

    A hook that nobody joins may be called like any other. It is false, too, which spares the hottest places the call.

    The object stays the same during a run, and its attributes are bound anew when plugins come and go. So take a hook
    from it at every call.

    Attributes:
        joined_in_step: Whether a plugin joins any hook from a batch's forward pass to the end of its update.
    """

    __slots__ = (*HOOKS, "_joined", "joined_in_step", "predict", "test", "validation")

    validation: EvaluationHooks
    test: EvaluationHooks
    predict: EvaluationHooks

    def __init__(self) -> None:
        self.validation = EvaluationHooks()
        self.test = EvaluationHooks()
        self.predict = EvaluationHooks()
        self._joined: set[str] = set()
        for hook in HOOKS:
            self.rebind(hook, nobody(hook))

    def rebind(self, hook: str, call: HookCall) -> None:
        """Let ``call`` be what happens at ``hook`` from its next call on."""
        setattr(self, hook, call)
        (self._joined.discard if call is nobody(hook) else self._joined.add)(hook)
        self.joined_in_step = not STEP_HOOKS.isdisjoint(self._joined)
        for stage in ("validation", "test", "predict"):
            event = hook.removeprefix(f"on_{stage}_")
            if event != hook:
                setattr(getattr(self, stage), event, call)

    if TYPE_CHECKING:

        def __getattr__(self, hook: str) -> HookCall: ...


def nobody(hook: str) -> HookCall:
    """Return what happens at a hook that no plugin joins."""
    return operator.call if hook.startswith("around_") else NOBODY


def bind(hook: str, impls: Sequence[HookImpl], trainer: object, module: object, ledger: Ledger) -> HookCall:
    """Return one function that calls ``impls``.

    Args:
        hook: The hook's name.
        impls: Its implementations in the order of their calls, wrappers first.
        trainer: The first argument of every hook.
        module: The second one.
        ledger: Puts a clock on each implementation while it is enabled.
    """
    if not impls:
        return nobody(hook)
    provided = HOOKS[hook]
    if hook.startswith("around_"):
        provided = (*provided[:2], "what it goes around", *provided[2:])  # no plugin can name that
    joined = [_join(impl, hook, provided, ledger) for impl in impls]
    bound = (trainer, module)
    call = _innermost(hook, [each for each in joined if not each.impl.wrapper], bound)
    for each in reversed(joined):
        if each.impl.wrapper:
            call = _wrapped(each, bound, call)
    return call


class _Joined(NamedTuple):
    """One implementation, ready to be called as ``function(*pick(all that the hook provides))``."""

    function: Callable[..., Any]
    pick: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    culprit: Culprit
    impl: HookImpl


def _join(impl: HookImpl, hook: str, provided: Sequence[str], ledger: Ledger) -> _Joined:
    function: Callable[..., Any] = impl.function
    member: Any = impl.plugin  # what the manager registers in the place of a plugin
    request = request_of(function, provided)
    if request.by_name:
        function = _taking_by_position(function, len(request.by_position), request.by_name)
    if ledger.enabled:
        function = ledger.clocked(function, impl.plugin_name, hook, is_wrapper=impl.wrapper)
    pick = _pick([provided.index(argument) for argument in (*request.by_position, *request.by_name)])
    return _Joined(function, pick, Culprit(impl.plugin_name, member.plugin, hook), impl)


def _taking_by_position(function: Callable[..., Any], split: int, names: Sequence[str]) -> Callable[..., Any]:
    """Return ``function``, taking by position also what it wants by name."""

    def call(*values: Any) -> Any:
        return function(*values[:split], **dict(zip(names, values[split:], strict=True)))

    return call


def _pick(indices: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return a function that picks these items of a tuple, as a tuple: a slice where they are neighbours."""
    first = indices[0] if indices else 0
    if indices == list(range(first, first + len(indices))):
        return operator.itemgetter(slice(first, first + len(indices)))
    return operator.itemgetter(*indices)


def _innermost(hook: str, joined: list[_Joined], bound: tuple[Any, ...]) -> HookCall:
    """Return what the wrappers of ``hook`` wrap: all other implementations, or what an around-hook goes around."""
    if hook.startswith("around_"):
        return operator.call
    if hook in _REACHES_ALL:
        return _REACHES_ALL[hook](joined, bound)
    if len(joined) == 1:
        return _single(joined[0], bound)
    calls = [(each.function, each.pick, each.culprit) for each in joined]

    def call(*values: Any) -> list[Any]:
        values = bound + values
        results = []
        try:
            for function, pick, culprit in calls:  # noqa: B007  the handler below asks which one it was
                result = function(*pick(values))
                if result is not None:
                    results.append(result)
        except Exception as error:
            culprit.blame(error)
            raise
        return results

    return call


def _single(joined: _Joined, bound: tuple[Any, ...]) -> HookCall:
    """Return a function that calls one implementation, a third faster than a loop over one."""
    function, pick, culprit, _ = joined

    def call(*values: Any) -> list[Any]:
        try:
            result = function(*pick(bound + values))
        except Exception as error:
            culprit.blame(error)
            raise
        return [] if result is None else [result]

    return call


def _of_exception(joined: list[_Joined], bound: tuple[Any, ...]) -> HookCall:
    """Return a function that tells every plugin of an exception, and notes on it what goes wrong meanwhile."""

    def call(exception: BaseException) -> Sequence[Any]:
        _call_all(joined, (*bound, exception), exception)
        return ()

    return call


def _at_end(joined: list[_Joined], bound: tuple[Any, ...]) -> HookCall:
    """Return a function that lets every plugin tear down, and then raises what went wrong first."""

    def call(*values: Any) -> Sequence[Any]:
        error = _call_all(joined, bound + values)
        if error is not None:
            raise error
        return ()

    return call


def _call_all(
    joined: list[_Joined], values: tuple[Any, ...], first: BaseException | None = None
) -> BaseException | None:
    """Call every implementation, whatever the others raise; return the first exception, the others noted on it."""
    for function, pick, culprit, _ in joined:
        try:
            function(*pick(values))
        except BaseException as error:
            if error is first:
                continue
            if not isinstance(error, Exception):
                raise  # a second Ctrl-C does not wait for the other plugins
            if first is None:
                culprit.blame(error)
                first = error
            else:
                first.add_note(f"then {culprit}: {in_one_line(error)}")
    return first


# What tidies up must run, whatever others raise.
_REACHES_ALL = {"on_exception": _of_exception, "teardown": _at_end}


def _wrapped(joined: _Joined, bound: tuple[Any, ...], inner: HookCall) -> HookCall:
    """Return a function that calls ``inner`` where the generator yields."""
    function, pick, culprit, _ = joined

    def call(*values: Any) -> Any:
        try:
            generator = function(*pick(bound + values))
            if next(generator, _ENDED) is _ENDED:
                raise _malformed(joined, "returned before its yield")
        except Exception as error:
            culprit.blame(error)
            raise
        try:
            result = inner(*values)
        except BaseException as error:
            return _leave(joined, generator, generator.throw, error)
        return _leave(joined, generator, generator.send, result)

    return call


_ENDED = object()


def _leave(joined: _Joined, generator: Generator[Any, Any, Any], resume: Callable[[Any], Any], value: Any) -> Any:
    """Resume a wrapper with what came from inside, a result or an exception, and return what it returns instead."""
    try:
        resume(value)
        generator.close()
        raise _malformed(joined, "yields more than once")
    except StopIteration as stop:
        return stop.value
    except Exception as error:
        # A StopIteration cannot leave a generator as itself: Python makes it the cause of a RuntimeError.
        wraps_it = isinstance(value, StopIteration) and isinstance(error, RuntimeError) and error.__cause__ is value
        if error is not value and not wraps_it:
            joined.culprit.blame(error)
            raise
    raise value


def _malformed(joined: _Joined, problem: str) -> HookError:
    name = f"{owner_name(joined.culprit.plugin)}.{joined.impl.function.__name__}"
    return unbindable(f"{name} {problem}.", joined.impl.function, remedy="a wrapper yields exactly once, on every way")
