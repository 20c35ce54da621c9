"""``trainkit config``: what a configuration comes to, where each value came from, and whether it is right."""

from __future__ import annotations

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
            from trainkit.cli.help_of import help_of

            say("\n".join(help_of(read, key)))
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
    unread = (f"not read: {key}: no ${{{key}}} refers to it, unless an anchor did" for key in config.unread)
    return ["all objects can be built.", *unchecked, *unread]


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
