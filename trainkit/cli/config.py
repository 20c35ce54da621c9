"""``trainkit config``: what a configuration comes to, where each value came from, and whether it is right."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from trainkit.cli.configured import configuration, errors_as_messages, import_from_current_folder, read_words
from trainkit.output import say
from trainkit.printable import printable

if TYPE_CHECKING:
    from trainkit.config.schema import Config


@click.command("config", short_help="Show and check a configuration; run nothing.")
@configuration
@click.option("--origins", is_flag=True, help="Say behind each value which file or override has set it.")
@click.option("--check", is_flag=True, help="Build all objects, and name the keys that no check can know.")
@click.option("--schema", is_flag=True, help="Print a JSON schema, by which editors check and complete the file.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--help-of", "key", metavar="KEY", help="Print what the class at a key takes, such as callbacks.timer.")
def command(
    config: str, overrides: tuple[str, ...], origins: bool, check: bool, schema: bool, debug: bool, key: str | None
) -> None:
    """Show what CONFIG comes to, with all files, overrides and interpolations.

    \b
    Examples:
      trainkit config base.yaml experiment.yaml trainer.max_epochs=3 --origins
      trainkit config config.yaml --check
      trainkit config config.yaml --help-of module
      trainkit config config.yaml --schema > config.schema.json
    """
    with errors_as_messages(debug, building=True):
        import_from_current_folder()
        read = read_words(config, overrides)
        if schema:
            from trainkit.config.json_schema import json_schema

            click.echo(json.dumps(json_schema(read), indent=2))
        elif key is not None:
            say("\n".join(_help_of(read, key)))
        elif check or origins:
            # Built first: of several ranks, which are started for that, one tells.
            checked = _checked(read) if check else []
            if checked is not None:
                say("\n".join([*(_with_origins(read) if origins else ()), *checked]))
        else:
            say(read.to_yaml().rstrip())


def _checked(config: Config) -> list[str] | None:
    """Build all objects, and return what is to be said of that; None if another rank says it."""
    from trainkit.checkpoint.locate import WORDS, require_path
    from trainkit.config import build

    run = build(config)
    if config.ckpt_path is not None and config.ckpt_path not in WORDS:
        require_path(config.ckpt_path)
    if not run.trainer.is_global_zero:
        return None
    unchecked = (f"not checked: {key}: {why}" for key, why in config.source.unchecked.items())
    return ["all objects can be built.", *unchecked]


def _with_origins(config: Config) -> Iterator[str]:
    from trainkit.config.files import key_paths

    sections = {name: value for name, value in config.sections().items() if value is not None}
    rows = [(path, _at(sections, path)) for path in key_paths(sections)]
    leaves = [(path, value) for path, value in rows if not isinstance(value, dict | list) or not value]
    shown = [f"{printable(path)}={printable(json.dumps(value, default=str))}" for path, value in leaves]
    width = min(max(map(len, shown), default=0), 48)
    for text, (path, _) in zip(shown, leaves, strict=True):
        where = config.source.where(path)
        origin = where if where.startswith("override ") else config.source.file_of(path)
        yield f"{text:<{width}}  # {printable(origin)}"


def _at(sections: dict[str, Any], path: str) -> Any:
    value: Any = sections
    for name in path.replace("[", ".[").split("."):
        value = value[int(name[1:-1])] if name.startswith("[") else value[name]
    return value


def _help_of(config: Config, key: str) -> Iterator[str]:
    """Yield the parameters of the class that a key of the configuration, or a plugin's name, stands for."""
    from trainkit.plugins import catalog
    from trainkit.trainer import Trainer

    section, _, name = key.partition(".")
    if section == "trainer" and name in _parameters(Trainer):
        yield from _help_of_argument(config, key, name)
    elif section == "trainer" and (kind := catalog.KIND_OF_ARGUMENT.get(name.partition(".")[0])):
        yield from _help_of_class(key, catalog.load(kind, name.partition(".")[2], where=f"--help-of {key}"))
    else:
        yield from _help_of_class(key, _class_at(config, key))


def _help_of_argument(config: Config, key: str, name: str) -> Iterator[str]:
    """Yield what an argument of the Trainer may be: of a plugin the names there are, and what the one named takes."""
    from trainkit.plugins import catalog
    from trainkit.reflection import documented_arguments
    from trainkit.trainer import Trainer

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
    if isinstance(used, str) and catalog.has(kind, used):
        yield ""
        yield from _help_of_class(f"{key}={used}", catalog.load(kind, used, where=f"--help-of {key}"))


def _parameters(kind: Any) -> dict[str, inspect.Parameter]:
    from trainkit.config.parameters import parameters_of

    found = parameters_of(kind)
    return found.named if found else {}


def _help_of_class(key: str, kind: Any) -> Iterator[str]:
    from trainkit.config.parameters import parameters_of
    from trainkit.reflection import documented_arguments

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
    from trainkit.config.target import locate
    from trainkit.errors import ConfigError
    from trainkit.plugins import catalog
    from trainkit.trainer import Trainer

    if key == "trainer":
        return Trainer
    section, _, name = key.partition(".")
    sections = config.sections()
    try:
        value = _at(sections, key)
    except (KeyError, IndexError, TypeError, ValueError):
        value = None
    if isinstance(value, dict) and "_target_" in value:
        return locate(value["_target_"], f"{key}._target_", config.source, "something to call", callable)
    if section == "callbacks" and name:
        used = value.get("use", name) if isinstance(value, dict) else name
        return catalog.load("callbacks", used, where=f"--help-of {key}")
    raise ConfigError(
        f"--help-of {key}: there is no class at that key.\n"
        "    allowed      trainer, trainer.ARGUMENT, callbacks.NAME, or a key with a _target_, such as module"
    )
