from __future__ import annotations

import inspect

import pytest

from trainkit.errors import ModuleError
from trainkit.module.class_only import class_only


class Net:
    def __init__(self, width: int = 1) -> None:
        self.width = width

    @class_only
    def wide(cls, width: int) -> Net:
        """Make a wide one."""
        return cls(width)


class Child(Net):
    pass


def test_on_the_class_it_is_a_class_method() -> None:
    assert Net.wide(3).width == 3
    assert type(Child.wide(width=4)) is Child
    assert Net.wide.__doc__ == "Make a wide one."
    assert list(inspect.signature(Net.wide).parameters) == ["width"]


@pytest.mark.parametrize("kind", [Net, Child])
def test_on_an_instance_it_is_an_error_that_shows_the_call_that_was_meant(kind: type[Net]) -> None:
    net = kind()
    with pytest.raises(ModuleError, match=rf"(?s)wide\(\) makes a new {kind.__name__}.*module = {kind.__name__}.wide"):
        net.wide(3)
    assert net.width == 1


def test_looking_at_it_on_an_instance_is_no_error() -> None:
    assert callable(Net().wide)
