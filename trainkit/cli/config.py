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
@click.option("--help-of", "key", metavar="KEY", help="Print what the class at a key takes, such as callbacks.timer.")
def command(config: str, overrides: tuple[str, ...], origins: bool, check: bool, schema: bool, key: str | None) -> None:
    """Show what CONFIG comes to, with all files, overrides and interpolations.

    \b
    Examples:
      trainkit config base.yaml experiment.yaml trainer.max_epochs=3 --origins
      trainkit config config.yaml --check
      trainkit config config.yaml --help-of module
      trainkit config config.yaml --schema > config.schema.json
    """
    with errors_as_messages():
        import_from_current_folder()
        read = read_words(config, overrides)
        if schema:
            from trainkit.config.json_schema import json_schema

            click.echo(json.dumps(json_schema(read), indent=2))
        elif key is not None:
            say("\n".join(_help_of(read, key)))
        elif check:
            _check(read)
        elif origins:
            say("\n".join(_with_origins(read)))
        else:
            say(read.to_yaml().rstrip())


def _check(config: Config) -> None:
    from trainkit.config import build

    build(config)
    say("all objects can be built.")
    for key, why in config.source.unchecked.items():
        say(f"not checked: {key}: {why}")


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
    from trainkit.config.parameters import parameters_of
    from trainkit.reflection import documented_arguments

    kind = _class_at(config, key)
    parameters = parameters_of(kind)
    told = documented_arguments(kind)
    yield f"{key}: {kind.__module__}.{kind.__qualname__}"
    if doc := inspect.getdoc(kind):
        yield f"    {doc.partition(chr(10))[0]}"
    for name, parameter in (parameters.named if parameters else {}).items():
        yield f"  {parameter}"
        if name in told:
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
        "    allowed      trainer, callbacks.NAME, or a key whose value has a _target_, such as module"
    )
