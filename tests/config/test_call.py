from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

from trainkit.config.call import call
from trainkit.config.schema import Source
from trainkit.errors import ConfigError

if TYPE_CHECKING:
    from nowhere import Unknown

SOURCE = Source("config.yaml", {"module.hiden": "module.hiden=3"})


class Net:
    def __init__(self, width: int, *, shape: tuple[int, ...] = (), name: str | None = None) -> None:
        self.arguments = (width, shape, name)


class Child(Net):
    def __init__(self, depth: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Open:
    def __init__(self, width: int = 1, **options: Any) -> None:
        self.options = options


class HalfAnnotated:
    def __init__(self, helper: Unknown = None, width: int = 1) -> None:
        self.width = width


class Refuses:
    def __init__(self, width: int) -> None:
        raise ConfigError(f"width={width} is not a power of two.")


class Fails:
    def __init__(self) -> None:
        raise TypeError("a slip in the user's own code")


def make(function: Any, closed: bool = False, **arguments: Any) -> Any:
    return call(function, arguments, "module", SOURCE, closed=closed)


def test_arguments_are_converted_by_annotation() -> None:
    assert make(Net, width=3, shape=[8, 8]).arguments == (3, (8, 8), None)


def test_class_that_takes_any_argument_gets_it() -> None:
    assert make(Open, anything=3).options == {"anything": 3}


def test_annotation_that_only_type_checkers_know_leaves_the_others_checked() -> None:
    assert make(HalfAnnotated, helper="not checked", width=3).width == 3
    with pytest.raises(ConfigError, match="module.width='abc' is not usable"):
        make(HalfAnnotated, width="abc")


def test_arguments_for_a_base_class_are_checked_and_converted() -> None:
    assert make(Child, depth=1, width=3, shape=[8]).arguments == (3, (8,), None)
    with pytest.raises(ConfigError, match=r"(?s)module.width='abc' is not usable.*says Child"):
        make(Child, depth=1, width="abc")
    with pytest.raises(ConfigError, match=r"(?s)unknown argument of Child 'widht'.*did you mean 'width'"):
        make(Child, depth=1, widht=3)
    with pytest.raises(ConfigError, match="module lacks 'width', which Child needs"):
        make(Child, depth=1)


def test_callable_without_signature_is_called() -> None:
    assert make(dict, a=1) == {"a": 1}


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (
            Net,
            {"width": 3, "hiden": 3},
            "unknown argument of Net 'hiden'.*override module.hiden=3.*allowed +name, shape, width",
        ),
        (
            Net,
            {"width": 3, "nmae": "a"},
            "unknown argument of Net 'nmae'.*config.yaml: module.nmae.*did you mean 'name'",
        ),
        (Net, {}, "module lacks 'width', which Net needs.*config.yaml: module.*allowed +width: int, shape"),
        (
            Net,
            {"width": "3"},
            "module.width='3' is not usable.*config.yaml: module.width.*allowed +width: int, says Net",
        ),
        (Net, {"width": 3, "shape": [1.5]}, r"module.shape=\[1.5\] is not usable.*allowed +shape: tuple\[int, ...\]"),
    ],
)
def test_wrong_arguments_are_explained(function: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        make(function, **arguments)


def test_closed_call_refuses_what_only_kwargs_would_take() -> None:
    with pytest.raises(ConfigError, match="unknown argument of Open 'anything'"):
        make(Open, closed=True, anything=3)


def test_refusal_of_the_class_itself_gains_the_place() -> None:
    with pytest.raises(ConfigError, match="not a power of two") as caught:
        make(Refuses, width=3)

    assert caught.value.__notes__ == ["    in           config.yaml: module, with module.hiden=3"]


def test_slip_in_the_users_code_keeps_its_type() -> None:
    with pytest.raises(TypeError, match="own code"):
        make(Fails)


def takes(kind: type[nn.Module] | None = None, function: Callable[[int], int] | None = None, name: str = "") -> None:
    pass


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"kind": "GELU"}, "write        torch.nn.GELU"),
        ({"kind": "Mine"}, "write        package.module.Mine, a dotted name"),
        ({"function": "relu"}, "write        package.module.relu, a dotted name"),
    ],
)
def test_a_bare_name_of_a_class_is_answered_with_a_dotted_one(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        call(takes, arguments, "module", SOURCE)


@pytest.mark.parametrize("arguments", [{"kind": 3}, {"kind": "no name"}, {"name": 3}])
def test_no_dotted_name_is_proposed_for_what_is_no_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        call(takes, arguments, "module", SOURCE)
    assert "write" not in str(caught.value)
