"""Class methods that make something new, which an instance must not seem to have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Never

from trainkit.errors import ModuleError

if TYPE_CHECKING:
    class_only = classmethod
else:

    class class_only(classmethod):
        """A class method that cannot be called on an instance, where what it returns would go unnoticed."""

        def __get__(self, instance: object | None, owner: type | None = None) -> Callable[..., Any]:
            return super().__get__(None, owner) if instance is None else _refusing(self.__func__.__name__, owner)


def _refusing(name: str, owner: type) -> Callable[..., Never]:
    def refuse(*args: Any, **kwargs: Any) -> Never:
        raise ModuleError(
            f"{name}() makes a new {owner.__name__} and leaves this one as it is.\n"
            f"    to do        module = {owner.__name__}.{name}(...)"
        )

    return refuse
