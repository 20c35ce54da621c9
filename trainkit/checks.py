"""Checks of arguments: numbers, flags, choices, shares, durations.

Functions whose names begin with ``is_`` return whether a value is allowed. The others raise an error that says what is
allowed; they are called in constructors, so that a mistake is found before any data is loaded.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeGuard, TypeVar

from trainkit.errors import ConfigError, TrainkitError, UnknownArgumentError, UnknownNameError
from trainkit.printable import is_writable
from trainkit.quantity import QuantityError, read_quantity

if TYPE_CHECKING:
    import torch

P = ParamSpec("P")
T = TypeVar("T")

Duration = str | timedelta | dict[str, float]
"""A duration as users write it; see `seconds`."""

SECONDS_OF = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
"""How many seconds a unit of time has, by each of its names."""

_COUNTED = {
    "": "",
    **dict.fromkeys(("step", "steps"), "step"),
    **dict.fromkeys(("epoch", "epochs"), "epoch"),
    **dict.fromkeys(("batch", "batches"), "batch"),
}
"""What is in the name of an argument that is a number of these."""

CLIP_ALGORITHMS = ("norm", "value")
"""Ways to clip gradients: scale all to a total norm, or cut off each value."""


def takes_numpy(function: Callable[P, T]) -> Callable[P, T]:
    """Let ``function``, mostly an ``__init__``, take numbers of numpy: they arrive as Python's.

    Such are the values of a sweep and those in a row of pandas. What is kept of them is in states and configurations,
    which have numbers of Python only. As it stands around what users call, it names the nearest argument too where
    they give one that does not exist.
    """
    parameters = inspect.signature(function).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())

    @functools.wraps(function)
    def with_python_numbers(*args: P.args, **kwargs: P.kwargs) -> T:
        if not takes_any and (unknown := [name for name in kwargs if name not in parameters]):
            allowed = [name for name in parameters if name != "self"]
            where = f"{function.__qualname__.removesuffix('.__init__')}(...)"
            raise UnknownArgumentError("argument", unknown[0], allowed, where)
        values = (without_numpy(value) for value in args)
        return function(*values, **{name: without_numpy(value) for name, value in kwargs.items()})

    return with_python_numbers


def without_numpy(value: Any) -> Any:
    """Return ``value`` with numbers, truth values and texts of numpy as Python's, in dicts, lists and tuples too.

    A container that holds none is returned itself: its owner may go on to change it.
    """
    if is_numpy_scalar(value):
        return value.item()
    if type(value) is dict:
        held = (*value, *value.values())
        plain = without_numpy(held)
        return value if plain is held else dict(zip(plain[: len(value)], plain[len(value) :], strict=True))
    if type(value) in (list, tuple):
        items = [without_numpy(item) for item in value]
        # By identity: tensors compare element by element.
        same = all(item is own for item, own in zip(items, value, strict=True))
        return value if same else type(value)(items)
    return value


def is_numpy_scalar(value: object) -> TypeGuard[Any]:
    """Return whether ``value`` is a number, a truth value or a text of numpy. Nothing is before numpy is imported."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.number | numpy.bool_ | numpy.str_)


def is_whole(value: object, *, at_least: float = -math.inf, at_most: float = math.inf) -> TypeGuard[int]:
    """Return whether ``value`` is an int within the bounds; True and False are not."""
    # bool is a subclass of int, and Trainer(max_epochs=True) is a mistake.
    return isinstance(value, int) and not isinstance(value, bool) and at_least <= value <= at_most


def is_number(value: object, *, at_least: float = -math.inf, at_most: float = math.inf) -> TypeGuard[float]:
    """Return whether ``value`` is an int or float within the bounds; NaN, True and False are not."""
    # NaN fails both comparisons, which so stand even without bounds.
    return isinstance(value, int | float) and not isinstance(value, bool) and at_least <= value <= at_most


def is_share(value: object) -> TypeGuard[float]:
    """Return whether ``value`` is a float from 0 to 1. An int is not: 1 means one batch, 1.0 all of them."""
    return isinstance(value, float) and 0.0 <= value <= 1.0


def whole(
    name: str,
    value: object,
    *,
    at_least: int = 0,
    at_most: float = math.inf,
    optional: bool = False,
    meaning: str = "",
    where: str = "",
    error: type[TrainkitError] = ConfigError,
) -> None:
    """Raise an error unless ``value`` is a whole number within the bounds.

    Args:
        name: What the argument is called.
        value: What was given for it.
        at_least: The smallest number that is allowed.
        at_most: The largest one.
        optional: Whether None is allowed too.
        meaning: What the error says of allowed numbers, in place of the bounds.
        where: Whose argument it is, such as ``"ModelCheckpoint"``.
        error: The class of the error to raise.
    """
    if (value is None and optional) or is_whole(value, at_least=at_least, at_most=at_most):
        return
    allowed = f"a whole number: {meaning}" if meaning else f"a whole number {_bounds(at_least, at_most)}"
    no_limit = " (-1 means no limit)" if at_least == -1 and not meaning else ""
    raise error(_refusal(name, value, allowed + no_limit, optional, where) + _number_meant(name, value))


def number(
    name: str,
    value: object,
    *,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    finite: bool = False,
    optional: bool = False,
    above: float = -math.inf,
    where: str = "",
) -> None:
    """Raise `ConfigError` unless ``value`` is an int or float within the bounds.

    Args:
        name: What the argument is called.
        value: What was given for it.
        at_least: The smallest number that is allowed.
        at_most: The largest one.
        finite: Whether infinity is refused.
        optional: Whether None is allowed too.
        above: What it has to be more than.
        where: Whose argument it is, such as ``"ModelCheckpoint"``.
    """
    if value is None and optional:
        return
    if not is_number(value, at_least=at_least, at_most=at_most) or (finite and math.isinf(value)) or value <= above:
        bounds = _bounds(at_least, at_most) if above == -math.inf else f"above {above}"
        raise ConfigError(_refusal(name, value, f"a number {bounds}".rstrip(), optional, where))


def clipping(value: object, algorithm: object, where: str = "") -> None:
    """Raise an error unless gradients can be clipped at ``value`` by ``algorithm``; None is allowed for both.

    Raises:
        ConfigError: If ``value`` is no number of at least 0.
        UnknownNameError: If there is no such algorithm.
    """
    if value is not None and not is_number(value, at_least=0):
        raise ConfigError(
            _refusal("gradient_clip_val", value, "a number of at least 0 (not negative)", optional=True, where=where)
        )
    if algorithm is not None:
        one_of("gradient_clip_algorithm", algorithm, CLIP_ALGORITHMS, where)


def flag(name: str, value: object) -> None:
    """Raise `ConfigError` unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(_refusal(name, value, "True or False"))


def flags(where: str, *, optional: bool = False, **values: object) -> None:
    """Raise `ConfigError` unless each value is True or False, or 1 or 0 in their place.

    A text such as ``"no"`` would count as true.

    Args:
        where: Whose arguments these are, such as ``"ModelCheckpoint"``.
        optional: Whether None is allowed too.
        values: The arguments.
    """
    for name, value in values.items():
        if not (isinstance(value, int) and value in (0, 1)) and not (value is None and optional):
            raise ConfigError(_refusal(name, value, "True or False", optional, where))


def text(where: str, *, optional: bool = False, **values: object) -> None:
    """Raise `ConfigError` unless each value is a str. For the arguments see `flags`."""
    for name, value in values.items():
        if not isinstance(value, str) and not (value is None and optional):
            raise ConfigError(_refusal(name, value, "a str", optional, where))
        if value is not None and not is_writable(value):
            raise ConfigError(_refusal(name, value, "text that a file can hold", optional, where))


def file_path(where: str, *, optional: bool = True, **values: object) -> None:
    """Raise `ConfigError` unless each value is a path (str or `os.PathLike`). For the arguments see `flags`."""
    for name, value in values.items():
        if value is None and optional:
            continue
        # Some that are os.PathLike give bytes.
        if not (isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str)):
            raise ConfigError(_refusal(name, value, "a path", optional, where))
        if not _is_possible_path(value):
            raise ConfigError(_refusal(name, value, "a path that there can be", optional, where))


def _is_possible_path(path: str | os.PathLike[str]) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a character; names that are no text for Python are another matter
        return False


def function(where: str, *, optional: bool = False, **values: object) -> None:
    """Raise `ConfigError` unless each value can be called. For the arguments see `flags`."""
    for name, value in values.items():
        if not callable(value) and not (value is None and optional):
            raise ConfigError(_refusal(name, value, "a function", optional, where))


def named_device(where: str, value: Any, name: str = "device") -> torch.device | None:
    """Return the device that ``value`` names; None for None.

    Args:
        where: Whose argument it is, such as ``"SingleDevice"``.
        value: A device, its name such as ``"cuda:1"``, or the index of an accelerator.
        name: What the argument is called.

    Raises:
        ConfigError: If it names none.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        # Here, as the command line asks for other checks before torch is wanted.
        import torch

        return None if value is None else torch.device(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(_refusal(name, value, "a torch.device, or the name of one", True, where)) from error


def one_of(kind: str, value: object, allowed: Iterable[str], where: str = "") -> None:
    """Raise `UnknownNameError`, which names the nearest spelling, unless ``value`` is one of ``allowed``."""
    # It may be any iterable, and is read twice.
    names = tuple(allowed)
    if value not in names:
        raise UnknownNameError(kind, str(value), names, where)


def share(where: str, name: str, value: object, *, error: type[TrainkitError] = ConfigError) -> None:
    """Raise an error unless ``value`` is a number of batches (int) or a share of them (float from 0 to 1)."""
    if is_whole(value, at_least=0) or is_share(value):
        return
    # 2.0 is neither a count nor a share, and 2 was meant.
    is_count = isinstance(value, float) and value.is_integer() and value > 1
    hint = f" Did you mean {name}={value:.0f}?" if is_count else _number_meant(name, value)
    allowed = "a number of batches (int) or a share from 0.0 to 1.0 (float)"
    raise error(_refusal(name, value, allowed, where=where) + hint)


def seconds(name: str, value: Duration | None) -> float:
    """Return a duration in seconds; None is infinite.

    Args:
        name: What the argument is called.
        value: A string such as ``"30 min"`` or ``"1.5h"``, or ``"DD:HH:MM:SS"``, a `timedelta`, or the arguments of one
            as a dict.

    Raises:
        ConfigError: If ``value`` is none of these.
    """
    if value is None:
        return math.inf
    given = value
    try:
        if isinstance(value, str):
            value = _as_timedelta(value)
        elif isinstance(value, dict):
            value = timedelta(**value)
        if value < timedelta() or (not value and given == {}):
            raise ValueError("it is negative, or nothing")
        return value.total_seconds()
    # In order: parts that are no numbers or not four, arguments that timedelta does not know, values of other types,
    # more days than it holds.
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        why = f": it {error}" if isinstance(error, QuantityError) else "."
        raise ConfigError(
            f"{name}={given!r} is not a duration{why} Allowed: a number and a unit such as '30 min' (s, min, h, d), "
            "'DD:HH:MM:SS', a datetime.timedelta, or its arguments as a dict such as {'hours': 2}."
        ) from error


def _as_timedelta(text: str) -> timedelta:
    if ":" in text:
        days, hours, minutes, secs = (int(part) for part in text.split(":"))
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=secs)
    size, unit = read_quantity(text, SECONDS_OF)
    return timedelta(seconds=float(size) * SECONDS_OF[unit])


def _bounds(at_least: float, at_most: float) -> str:
    if at_least == -math.inf and at_most == math.inf:
        return ""
    return f"of at least {at_least}" if at_most == math.inf else f"from {at_least} to {at_most}"


def _refusal(name: str, value: object, allowed: str, optional: bool = False, where: str = "") -> str:
    owner = f"{where}: " if where else ""
    return f"{owner}{name}={_shown(value)} must be {allowed}{', or None' if optional else ''}."


def _number_meant(name: str, value: object) -> str:
    """Return what to write in place of a text that says how many there are of what the argument counts anyway."""
    try:
        size, unit = read_quantity(value, _COUNTED) if isinstance(value, str) else (None, "")
    except QuantityError:
        return ""
    is_meant = size is not None and size < sys.maxsize and size % 1 == 0 and _COUNTED[unit] in name
    return f" Write {name}={size:.0f}, without a unit or quotes." if is_meant else ""


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        return "(a number of thousands of digits)"
