"""`class_only`: a class method, such as ``load_from_checkpoint``, that refuses to be called on an instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Never

from trainkit.errors import ModuleError

if TYPE_CHECKING:
    # Type checkers see a plain classmethod, which is how they know what ``cls`` and ``Self`` are in it.
    class_only = classmethod
else:

    class class_only(classmethod):
        """A class method that raises `ModuleError` when it is called on an instance.

        ``module.load_from_checkpoint(path)`` looks as if it loaded into ``module``, but returns a new one.
        """

        def __get__(self, instance: object | None, owner: type | None = None) -> Callable[..., Any]:
            return super().__get__(None, owner) if instance is None else _refusing(self.__func__.__name__, owner)


def _refusing(name: str, owner: type) -> Callable[..., Never]:
    # Raised by the call and not by the access, so that `hasattr` and tools that list attributes are not disturbed.
    def refuse(*args: Any, **kwargs: Any) -> Never:
        raise ModuleError(
            f"{name}() makes a new {owner.__name__} and leaves this one as it is.\n"
            f"    to do        module = {owner.__name__}.{name}(...)"
        )

    return refuse
