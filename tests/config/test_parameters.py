from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from trainkit import TrainModule
from trainkit.config.parameters import parameters_of

if TYPE_CHECKING:
    from nowhere import Unknown


class Base(nn.Module):
    def __init__(self, width: int, depth: int = 1, **options: Any) -> None:
        super().__init__()
        self.options = options


class Named(Base):
    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class GivesWidth(Base):
    def __init__(self, name: str = "", **kwargs: Any) -> None:
        super().__init__(3, depth=2, **kwargs)


class ByName(Named):
    def __init__(self, **kwargs: Any) -> None:
        Base.__init__(self, **kwargs)


class Takes(nn.Linear):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.scale = kwargs.pop("scale", 1.0)
        super().__init__(*args, **kwargs)


class Layer(nn.Linear):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class ToNobody(TrainModule):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Mixin:
    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Mixed(Mixin, Layer):
    pass


class GoesOn(nn.Module):
    call_super_init = True


class BothSides(GoesOn, Mixin):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Nested:
    class Kind(Enum):
        A = 1

    def __init__(self, kind: Kind) -> None: ...


class Annotated:
    def __init__(self, helper: Unknown, path: Path, many: "list['Path']", one: "int") -> None: ...  # noqa: UP037


def function(width: int, **options: Any) -> None: ...


@pytest.mark.parametrize(
    ("target", "names", "takes_any"),
    [
        (Base, "width depth", True),
        (Named, "name width depth", True),
        (GivesWidth, "name", True),
        (ByName, "width depth", True),
        (Layer, "in_features out_features bias device dtype", False),
        (Takes, "in_features out_features bias device dtype", True),
        (ToNobody, "", False),
        (Mixed, "rate in_features out_features bias device dtype", False),
        (BothSides, "rate", True),
        (function, "width", True),
    ],
)
def test_parameters_are_those_that_a_call_reaches(target: Callable[..., Any], names: str, takes_any: bool) -> None:
    found = parameters_of(target)

    assert found is not None
    assert ([*found.named], found.takes_any) == (names.split(), takes_any)


def test_function_of_c_has_none() -> None:
    assert parameters_of(dict) is None


def test_what_may_come_from_the_constructor_itself_is_not_missing() -> None:
    required = {
        target: [name for name, each in parameters_of(target).named.items() if each.default is each.empty]  # type: ignore[union-attr]
        for target in (Layer, Takes)
    }

    assert required == {Layer: ["in_features", "out_features"], Takes: []}


def test_each_annotation_is_evaluated_by_itself_and_to_its_end() -> None:
    found = parameters_of(Annotated)

    assert found is not None
    assert [each.annotation for each in found.named.values()] == ["Unknown", Path, list[Path], int]


def test_annotation_may_name_what_its_class_holds_or_its_base_has_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", elsewhere)
    source = "from __future__ import annotations\nimport dataclasses\nfrom torch import device as Device\n"
    exec(f"{source}@dataclasses.dataclass\nclass Base:\n    device: Device", vars(elsewhere))
    inherited = dataclasses.make_dataclass("Inherited", ["size"], bases=(elsewhere.Base,))

    nested, derived = parameters_of(Nested), parameters_of(inherited)

    assert nested is not None
    assert nested.named["kind"].annotation is Nested.Kind
    assert derived is not None
    assert derived.named["device"].annotation is torch.device
