"""The command ``trainkit``: one file for each subcommand, imported when it is used."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import click

import trainkit
from trainkit.errors import nearest_name
from trainkit.output import discard_at_exit

COMMANDS = ("fit", "validate", "test", "predict", "checkpoint", "verify-resume")
"""The subcommands, in the order of the help. Each is the object ``command`` in the file of its name."""


class _LazyCommands(click.Group):
    """A group that imports a subcommand when it is asked for, and suggests the nearest name for an unknown one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"trainkit.cli.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # Here and not in `get_command`, which click also calls to complete names and to list them.
        nearest = nearest_name(args[0], COMMANDS)
        if args[0] not in COMMANDS and nearest is not None:
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {nearest!r}?", ctx)
        return super().resolve_command(ctx, args)


@click.group("trainkit", cls=_LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(trainkit.__version__, prog_name="trainkit")
@click.pass_context
def main(context: click.Context) -> None:
    """Train PyTorch modules.

    A run is described by a YAML file; see `trainkit COMMAND --help` for each command.
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
