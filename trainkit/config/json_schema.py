"""The JSON schema of a configuration, by which editors complete and check keys while one types.

It says what the annotations of the classes say which a configuration names; any value may be an interpolation instead,
or an object with a ``_target_``.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Callable, Collection
from enum import Enum
from inspect import Parameter
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from trainkit.config.parameters import parameters_of
from trainkit.config.schema import Config
from trainkit.config.target import locate
from trainkit.errors import TrainkitError
from trainkit.plugins import catalog
from trainkit.trainer import Trainer

Schema = dict[str, Any]

_PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string", types.NoneType: "null"}
_OTHER = {"$ref": "#/$defs/other"}


def json_schema(config: Config) -> Schema:
    """Return the schema for files like that of ``config``, whose classes it names."""
    trainer = _arguments_of(Trainer, closed=True)
    trainer["properties"].pop("callbacks", None)
    for name, kind in catalog.KIND_OF_ARGUMENT.items():
        trainer["properties"][name] = {"anyOf": [trainer["properties"][name], _plugin(kind), {"type": "array"}]}
    sections = {"module": config.module, "data": config.data or {}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "a run of trainkit",
        "type": "object",
        "additionalProperties": False,
        "required": ["module"],
        "properties": {
            "seed": {"type": ["integer", "null"]},
            **{name: _object_of(section, name, config) for name, section in sections.items()},
            "trainer": trainer,
            "callbacks": {"anyOf": [_callbacks(config.callbacks), {"type": "array"}]},
            "ckpt_path": {"type": ["string", "null"]},
            "shared": {"type": "object"},
            "plugins": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    **{name: {"type": "array", "items": {"type": "string"}} for name in ("enable", "disable")},
                    "timing": {"type": ["boolean", "null"]},
                },
            },
        },
        "$defs": {
            "other": {
                "anyOf": [
                    {"type": "string", "pattern": r"\$\{"},
                    {"type": "object", "required": ["_target_"]},
                    {"type": "object", "required": ["_link_"]},
                    {"type": "object", "required": ["_ref_"]},
                ]
            }
        },
    }


def schema_of(annotation: Any) -> Schema:
    """Return the schema for values of an annotation; an empty one, which accepts all, where nothing is known of it."""
    if annotation is None:
        annotation = types.NoneType
    form, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if form in (Annotated, Required, NotRequired):
        return schema_of(arguments[0])
    if form in (Union, types.UnionType):
        parts = [schema_of(part) for part in arguments]
        return {"anyOf": parts} if all(parts) else {}
    if form is Literal:
        return {"enum": list(arguments)}
    if isinstance(form, type) and form in _PLAIN:
        return {"type": _PLAIN[form]}
    if isinstance(form, type) and issubclass(form, Enum):
        values = [member.value for member in form if isinstance(member.value, str | int | float)]
        return {"enum": list(dict.fromkeys([*form.__members__, *values]))}
    if form in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return (
            {"type": "object", "additionalProperties": _value(arguments[1])}
            if len(arguments) == 2
            else {"type": "object"}
        )
    if form in (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable):
        same = len({*arguments} - {...}) == 1
        return {"type": "array", "items": _value(arguments[0])} if same else {"type": "array"}
    if dataclasses.is_dataclass(form):
        return _arguments_of(typing.cast("Callable[..., Any]", form), closed=True)
    if typing.is_typeddict(form):
        hints = typing.get_type_hints(form, include_extras=True)
        return {"type": "object", "properties": {name: _value(hint) for name, hint in hints.items()}}
    return {}


def _value(annotation: Any) -> Schema:
    """Return the schema for what stands for a value of an annotation in a file."""
    schema = schema_of(annotation)
    return {"anyOf": [schema, _OTHER]} if schema else {}


def _arguments_of(function: Callable[..., Any], *, closed: bool = False, optional: bool = False) -> Schema:
    parameters = parameters_of(function)
    if parameters is None:
        return {"type": "object", "properties": {}}
    named = parameters.named
    required = [name for name, each in named.items() if each.default is Parameter.empty]
    return {
        "type": "object",
        "properties": {name: _value(each.annotation) for name, each in named.items()},
        "additionalProperties": parameters.takes_any and not closed,
        **({"required": required} if required and not optional else {}),
    }


def _object_of(section: dict[str, Any], key: str, config: Config) -> Schema:
    """Return the schema for a section with a ``_target_``; of other classes than that one nothing is known."""
    if "_target_" not in section:
        return {"type": ["object", "null"]}
    found = locate(section["_target_"], f"{key}._target_", config.source, "something to call", callable)
    own = _arguments_of(found, optional=bool({"_args_", "_partial_"} & section.keys()))
    own["properties"] |= {"_target_": {"const": section["_target_"]}, "_args_": {"type": "array"}, "_partial_": {}}
    own["properties"]["_replace_"] = {"type": "boolean"}
    other = {
        "type": "object",
        "properties": {"_target_": {"not": {"const": section["_target_"]}}},
        "required": ["_target_"],
    }
    return {"anyOf": [own, other]}


def _callbacks(named: Collection[str]) -> Schema:
    """Return the schema for callbacks. Of those of other packages only what is ``named`` already is imported."""
    properties: dict[str, Schema] = {}
    for entry in catalog.entries("callbacks"):
        is_own = entry.distribution == "trainkit"
        if not is_own and entry.name not in named:
            properties.setdefault(entry.name, {"type": ["object", "null"]})
            continue
        try:
            own = _arguments_of(entry.load() if is_own else catalog.load("callbacks", entry.name))
        except TrainkitError:  # one that does not import can be named, and is told of then
            continue
        own["properties"] |= {"use": {"type": "string"}, "_target_": {"type": "string"}}
        properties.setdefault(
            entry.name, {"anyOf": [{"type": "null"}, own, {"required": ["_target_"]}, {"required": ["use"]}]}
        )
    return {"type": "object", "properties": properties, "additionalProperties": {"type": ["object", "null"]}}


def _plugin(kind: catalog.Kind) -> Schema:
    names = [entry.name for entry in catalog.entries(kind)]
    return {"type": "object", "required": ["use"], "properties": {"use": {"examples": names}}}
