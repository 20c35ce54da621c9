"""The command ``trainkit``: one file for each subcommand, imported when it is used."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

import trainkit
from trainkit.cli.configured import errors_as_messages
from trainkit.errors import PluginError, nearest_name
from trainkit.output import discard_at_exit
from trainkit.plugins import catalog

COMMANDS = tuple(catalog.own_targets("cli"))
"""The subcommands, in the order of the help."""

COMPLETE = "_TRAINKIT_COMPLETE"
"""The environment variable in which a shell asks what there is to complete; the name is click's."""


class _LazyCommands(click.Group):
    """A group that imports a subcommand when it is asked for, and suggests the nearest name for an unknown one.

    Installed packages add commands of their own, by entry points in the group ``trainkit.cli``.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module, _, name = catalog.own_targets("cli")[cmd_name].partition(":")
            command: click.Command = getattr(importlib.import_module(module), name)
            return command
        if not catalog.has("cli", cmd_name):
            return None
        with errors_as_messages():
            return _checked(catalog.find("cli", cmd_name, where="the command line"))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # Here and not in `get_command`, which click also calls to complete names and to list them.
        if args[0] not in COMMANDS:
            known = [entry.name for entry in catalog.entries("cli")]
            nearest = nearest_name(args[0], known)
            if nearest is not None and not catalog.has("cli", args[0]):
                raise click.UsageError(f"No such command {args[0]!r}. Did you mean {nearest!r}?", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            key = error.option_name.lstrip("-")
            if "." not in key:
                raise
            # As the key is written in the programs of other frameworks.
            message = f"No such option {error.option_name!r}. Keys of the configuration have no dashes: {key}=VALUE"
            raise click.UsageError(message, error.ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_commands(ctx, formatter)
        # By their metadata alone: whoever asks for help runs no line of them.
        offered = [
            # One that has the name of a command of trainkit is reached by this.
            (
                entry.qualified_name if entry.name in COMMANDS else entry.name,
                f"offered by {entry.distribution} {entry.version}",
            )
            for entry in catalog.entries("cli")
            if entry.distribution != "trainkit"
        ]
        if offered:
            with formatter.section("Commands of installed packages"):
                formatter.write_dl(offered)


def _checked(entry: catalog.Entry) -> click.Command:
    loaded = entry.load()
    if not isinstance(loaded, click.Command):
        raise PluginError(
            f"command {entry.name!r} ({entry.target}) is {loaded!r}, and a click.Command is needed.\n"
            f"    offered by   {entry.distribution} {entry.version}"
        )
    return loaded


if COMPLETE in os.environ:  # a shell asks, which click answers before it comes to the group
    from click.shell_completion import add_completion_class

    from trainkit.cli.complete import Bash

    add_completion_class(Bash)


@click.group("trainkit", cls=_LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(trainkit.__version__, prog_name="trainkit")
@click.pass_context
def main(context: click.Context) -> None:
    """Train PyTorch modules.

    A run is described by a YAML file; see `trainkit COMMAND --help` for each command.

    \b
    Examples:
      trainkit init moons
      trainkit fit config.yaml trainer.max_epochs=20
      trainkit doctor config.yaml

    \b
    To complete commands, options, files and keys with the tab key:
      eval "$(_TRAINKIT_COMPLETE=bash_source trainkit)"      (in ~/.bashrc)
      eval "$(_TRAINKIT_COMPLETE=zsh_source trainkit)"       (in ~/.zshrc)
      _TRAINKIT_COMPLETE=fish_source trainkit | source       (in config.fish)
    """
    # Also for what the user's code prints: `trainkit fit ... | head -1` has trained, and ends with 0.
    discard_at_exit()
    context.with_resource(_named_in_warnings(f"{context.command_path} {context.invoked_subcommand}"))


@contextmanager
def _named_in_warnings(command: str) -> Iterator[None]:
    """Let warnings name ``command`` in place of the line that has called trainkit, which is one of click's here."""
    given, folder = warnings.formatwarning, os.path.dirname(click.__file__)

    def text(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if os.path.dirname(filename) == folder:
            return f"{command}: {category.__name__}: {message}\n"
        return given(message, category, filename, lineno, line)

    warnings.formatwarning = text
    try:
        yield
    finally:
        warnings.formatwarning = given
