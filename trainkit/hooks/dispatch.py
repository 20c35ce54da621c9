"""The hot path: the implementations that pluggy holds become one plain function per hook, so a call looks nothing up.

A function calls the plugins exactly as pluggy would (``tests/hooks/test_differential.py`` compares the two), with four
differences:

- a keyword-only argument is passed, too, if the hook provides it;
- an exception gains a note that names plugin and hook;
- a wrapper that yields twice is reported to the wrappers around it, which pluggy drops;
- ``on_exception`` and ``teardown`` reach every plugin, whatever the others raise.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from pluggy import HookImpl

from trainkit.errors import HookError, note_on
from trainkit.hooks.arguments import Request, request_of
from trainkit.hooks.attribution import Attribution, in_one_line
from trainkit.hooks.bound import HookCall, no_op
from trainkit.hooks.specs import HOOKS
from trainkit.hooks.unbindable import owner_name, unbindable

if TYPE_CHECKING:
    from trainkit.hooks.timing import HookTimer


def bind(
    hook: str,
    impls: Sequence[HookImpl],
    trainer: object,
    module: object,
    timer: HookTimer | None,
    unfinished: Unfinished,
) -> HookCall:
    """Return one function that calls ``impls``, to be an attribute of `BoundHooks`.

    Args:
        hook: The hook's name.
        impls: Its implementations in the order of their calls, wrappers first.
        trainer: The first argument of every hook.
        module: The second one.
        timer: Times each implementation while it is enabled; None times none.
        unfinished: Where the newest call of the hook leaves what it has yet to call.
    """
    if not impls:
        return no_op(hook)
    provided = HOOKS[hook]
    if hook.startswith("around_"):
        # A loop passes the wrapped function first. It takes a place here so that the indices of the others are right;
        # a name with spaces is one that no plugin can ask for.
        provided = (*provided[:2], "what it goes around", *provided[2:])
    bound = (trainer, module)
    joined = [_join(impl, hook, provided, arguments_of(impl, hook, module), timer, bound) for impl in impls]
    call = _innermost(hook, [each for each in joined if not each.impl.wrapper], unfinished)
    # From the inside out: the first in the order of calls is wrapped around last, and so is the outermost.
    for each in reversed(joined):
        if each.impl.wrapper:
            call = _wrapped(each, call)
    return call


Unfinished = dict[str, Iterator[tuple[Callable[..., Any], Callable[..., Any], Attribution]]]
"""By hook, an iterator over the plugins that its newest call has yet to call: the very one that the call goes through,
so that keeping it up to date costs nothing."""


def arguments_of(impl: HookImpl, hook: str, module: object) -> Request:
    """Return the arguments with which ``impl`` is called."""
    member: Any = impl.plugin  # the manager's `_Member`, which stands for the plugin
    # A module's `*args` is without trainer and module: the one is its `self`, and the other an attribute of it.
    rest = HOOKS[hook][2:] if member.plugin is module else HOOKS[hook]
    return request_of(impl.function, HOOKS[hook], rest)


class _Joined(NamedTuple):
    """One implementation: ``function(*pick(what the hook provides behind trainer and module))`` calls it."""

    function: Callable[..., Any]
    pick: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    attribution: Attribution
    impl: HookImpl


def _join(
    impl: HookImpl,
    hook: str,
    provided: Sequence[str],
    request: Request,
    timer: HookTimer | None,
    bound: tuple[Any, ...],
) -> _Joined:
    function: Callable[..., Any] = impl.function
    member: Any = impl.plugin
    if request.by_name:
        function = _taking_by_position(function, len(request.by_position), request.by_name)
    # Decided when hooks are bound, not at each call: a run that is not timed pays nothing for the possibility.
    if timer is not None and timer.enabled and member.plugin is not timer.owner:
        function = timer.timed(function, impl.plugin_name, hook, is_wrapper=impl.wrapper)
    indices = [provided.index(argument) for argument in (*request.by_position, *request.by_name)]
    known = list(takewhile(lambda index: index < len(bound), indices))
    if all(index >= len(bound) for index in indices[len(known) :]):
        # Trainer and module come first, as they usually do: they are given once, and not at each call.
        function = partial(function, *(bound[index] for index in known)) if known else function
        pick = _pick([index - len(bound) for index in indices[len(known) :]])
    else:
        function, pick = _taking_known(function, _pick(indices), bound), _pick(list(range(len(provided) - len(bound))))
    return _Joined(function, pick, Attribution(impl.plugin_name, member.plugin, hook), impl)


def _taking_known(function: Callable[..., Any], pick: Callable[..., Any], bound: tuple[Any, ...]) -> Callable[..., Any]:
    """Return ``function`` so that it takes what a hook provides but ``bound``."""
    return lambda *values: function(*pick(bound + values))


def _taking_by_position(function: Callable[..., Any], split: int, names: Sequence[str]) -> Callable[..., Any]:
    """Return ``function`` so that it takes its keyword-only arguments by position, after the first ``split``."""

    def call(*values: Any) -> Any:
        return function(*values[:split], **dict(zip(names, values[split:], strict=True)))

    return call


def _pick(indices: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return a function that picks these items of a tuple, as a tuple."""
    first = indices[0] if indices else 0
    # Neighbours, which are the usual case, are a slice. So are one index and none: with one, `itemgetter` would return
    # the bare item, and with none it cannot be made.
    if indices == list(range(first, first + len(indices))):
        return operator.itemgetter(slice(first, first + len(indices)))
    return operator.itemgetter(*indices)


def _innermost(hook: str, joined: list[_Joined], unfinished: Unfinished) -> HookCall:
    """Return what the wrappers of ``hook`` run around: its other implementations, or the function a loop passes."""
    if hook.startswith("around_"):
        return operator.call
    if hook in _REACHES_ALL:
        return _REACHES_ALL[hook](joined)
    if len(joined) == 1:
        return _single(joined[0])
    # Unpacked here and not in the loop, where each look-up of an attribute would be paid at every call.
    calls = [(each.function, each.pick, each.attribution) for each in joined]

    def call(*values: Any) -> list[Any]:
        results = []
        unfinished[hook] = rest = iter(calls)
        try:
            for function, pick, attribution in rest:  # noqa: B007  the handler below asks which one it was
                result = function(*pick(values))
                if result is not None:
                    results.append(result)
        # Not BaseException: no plugin is to blame for a Ctrl-C that arrived while it ran.
        except Exception as error:
            del unfinished[hook]  # a wrapper may go on in spite of it, and this call does not
            attribution.blame(error)
            raise
        return results

    return call


def _single(joined: _Joined) -> HookCall:
    """Return a function that calls one implementation, a third faster than a loop over one."""
    function, pick, attribution, _ = joined

    def call(*values: Any) -> list[Any]:
        try:
            result = function(*pick(values))
        except Exception as error:
            attribution.blame(error)
            raise
        return [] if result is None else [result]

    return call


def _on_exception(joined: list[_Joined]) -> HookCall:
    """Return the function of ``on_exception``: it calls every plugin, and notes on the exception what they raise."""

    def call(exception: BaseException) -> Sequence[Any]:
        _call_all(joined, (exception,), exception)
        return ()

    return call


def _teardown(joined: list[_Joined]) -> HookCall:
    """Return the function of ``teardown``: it calls every plugin, and then raises the first exception of them."""

    def call(*values: Any) -> Sequence[Any]:
        error = _call_all(joined, values)
        if error is not None:
            raise error
        return ()

    return call


def _call_all(
    joined: list[_Joined], values: tuple[Any, ...], first: BaseException | None = None
) -> BaseException | None:
    """Call every implementation, whatever the others raise.

    Args:
        joined: The implementations.
        values: All that the hook provides but trainer and module.
        first: An exception that was raised before, on which later ones are noted.

    Returns:
        ``first``, or the first exception that an implementation raised; None if there is none.
    """
    for function, pick, attribution, _ in joined:
        try:
            function(*pick(values))
        except BaseException as error:
            # A plugin may raise again what it was told of, which is no second failure.
            if error is first:
                continue
            # A second Ctrl-C does not wait for the other plugins.
            if not isinstance(error, Exception):
                raise
            if first is None:
                attribution.blame(error)
                first = error
            else:
                note_on(first, f"then {attribution}: {in_one_line(error)}")
    return first


# Hooks in which plugins tidy up: a failure of one must not leave the files and processes of the others open.
_REACHES_ALL = {"on_exception": _on_exception, "teardown": _teardown}


def _wrapped(joined: _Joined, inner: HookCall) -> HookCall:
    """Return a function that runs a wrapper's generator and calls ``inner`` where it yields."""
    function, pick, attribution, _ = joined

    def call(*values: Any) -> Any:
        try:
            generator = function(*pick(values))
            # With a default, `next` does not raise the StopIteration of a generator that has ended.
            if next(generator, _ENDED) is _ENDED:
                raise _malformed(joined, "returned before its yield")
        except Exception as error:
            attribution.blame(error)
            raise
        try:
            result = inner(*values)
        # Interrupts too are thrown into the generator, so that its `finally` runs.
        except BaseException as error:
            return _leave(joined, generator, generator.throw, error)
        return _leave(joined, generator, generator.send, result)

    return call


_ENDED = object()


def _leave(joined: _Joined, generator: Generator[Any, Any, Any], resume: Callable[[Any], Any], value: Any) -> Any:
    """Resume a wrapper with the result or the exception from inside, and return what it returns instead.

    Args:
        joined: The wrapper.
        generator: Its generator, which waits at its yield.
        resume: ``generator.send`` for a result, ``generator.throw`` for an exception.
        value: The result or the exception.
    """
    try:
        resume(value)
        # It has yielded again. Closed first, so that its `finally` has run when the error reaches the outer wrappers.
        generator.close()
        raise _malformed(joined, "yields more than once")
    except StopIteration as stop:
        return stop.value  # how Python hands over what a generator returned
    except Exception as error:
        # A StopIteration cannot leave a generator as itself: Python makes it the cause of a RuntimeError.
        wraps_it = isinstance(value, StopIteration) and isinstance(error, RuntimeError) and error.__cause__ is value
        if error is not value and not wraps_it:
            joined.attribution.blame(error)
            raise
    # Outside the handler, where Python would note the RuntimeError as the context of the exception that it wraps.
    raise value


def _malformed(joined: _Joined, problem: str) -> HookError:
    name = f"{owner_name(joined.attribution.plugin)}.{joined.attribution.hook}"
    return unbindable(f"{name} {problem}.", joined.impl.function, remedy="a wrapper yields exactly once, on every way")
