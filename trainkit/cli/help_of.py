"""What a class takes that a key of a configuration stands for: ``trainkit config --help-of KEY``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from trainkit.config.files import dotted
from trainkit.config.parameters import parameters_of
from trainkit.config.schema import Config
from trainkit.config.target import locate
from trainkit.errors import ConfigError
from trainkit.plugins import catalog
from trainkit.reflection import documented_arguments
from trainkit.trainer import Trainer


def help_of(config: Config, key: str) -> Iterator[str]:
    """Yield the parameters of the class that a key of the configuration, or a plugin's name, stands for.

    Args:
        config: The configuration.
        key: A key path in it, ``trainer`` and any of its arguments, ``trainer.strategy.NAME`` or ``callbacks.NAME``.

    Raises:
        ConfigError: If there is nothing of the kind at that key.
    """
    section, _, name = key.partition(".")
    if section == "trainer" and name in _parameters(Trainer):
        yield from _help_of_argument(config, key, name)
    elif section == "trainer" and (kind := catalog.KIND_OF_ARGUMENT.get(name.partition(".")[0])):
        yield from _help_of_class(key, catalog.load(kind, name.partition(".")[2], where=f"--help-of {key}"))
    else:
        yield from _help_of_class(key, _class_at(config, key))


def _help_of_argument(config: Config, key: str, name: str) -> Iterator[str]:
    """Yield what an argument of the Trainer may be: of a plugin the names there are, and what the one named takes."""
    yield f"{key}: {_parameters(Trainer)[name]}"
    yield f"    {documented_arguments(Trainer).get(name, '')}"
    kind = catalog.KIND_OF_ARGUMENT.get(name)
    if kind is None:
        return
    entries = catalog.entries(kind)
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        yield f"  {entry.name:<{width}}  {entry.stands_for or entry.target.rpartition(':')[2]}"
    yield f"  What one takes: --help-of {key}.NAME. To give it arguments: {key}: {{use: NAME, ...}}"
    value = config.trainer.get(name)
    used = value.get("use") if isinstance(value, dict) else value
    if isinstance(value, dict) and "_target_" in value:
        yield ""
        yield from _help_of_class(key, _class_at(config, key))
    elif isinstance(used, str) and catalog.has(kind, used):
        yield ""
        yield from _help_of_class(f"{key}={used}", catalog.load(kind, used, where=f"--help-of {key}"))


def _parameters(kind: Any) -> dict[str, inspect.Parameter]:
    found = parameters_of(kind)
    return found.named if found else {}


def _help_of_class(key: str, kind: Any) -> Iterator[str]:
    parameters = parameters_of(kind)
    given = getattr(kind, "keywords", {})  # of a name that stands for another one with arguments
    kind = getattr(kind, "func", kind)
    told = documented_arguments(kind)
    yield f"{key}: {kind.__module__}.{kind.__qualname__}"
    if doc := inspect.getdoc(kind):
        yield f"    {doc.partition(chr(10))[0]}"
    for name, parameter in (parameters.named if parameters else {}).items():
        yield f"  {parameter}"
        if name in told and name not in given:
            yield f"      {told[name]}"
    if parameters is None or parameters.takes_any:
        yield "  and any other name"


def _class_at(config: Config, key: str) -> Any:
    if key == "trainer":
        return Trainer
    section, _, name = key.partition(".")
    value = _value_at(config, key)
    if isinstance(value, dict) and "_target_" in value:
        return locate(value["_target_"], f"{key}._target_", config.source, "something to call", callable)
    if section == "callbacks" and name:
        used = value.get("use", name) if isinstance(value, dict) else name
        return catalog.load("callbacks", used, where=f"--help-of {key}")
    raise ConfigError(
        f"--help-of {key}: there is no class at that key.\n"
        "    allowed      trainer, trainer.ARGUMENT, callbacks.NAME, or a key with a _target_, such as module"
    )


def _value_at(config: Config, key: str) -> Any:
    value: Any = config.sections()
    for name in dotted(key).split("."):
        place: Any = int(name) if isinstance(value, list) and name.isdecimal() else name
        try:
            value = value[place]
        except (KeyError, IndexError, TypeError):
            return None
    return value
