"""``trainkit checkpoint``: shows, verifies, compares, converts and exports checkpoints."""

from __future__ import annotations

import os
import sys
from itertools import islice
from typing import Any

import click

from trainkit.cli.configured import errors_as_messages
from trainkit.printable import printable

DIFFERENCES_SHOWN = 20


@click.group("checkpoint", short_help="Look into checkpoints, and convert them.")
def command() -> None:
    """Look into checkpoints, compare them, and bring them into other forms.

    Nothing here runs code from a file, but `convert --trust`.

    \b
    Examples:
      trainkit checkpoint show last.ckpt
      trainkit checkpoint diff first.ckpt second.ckpt
    """


@command.command("show")
@click.argument("file", type=click.Path())
@click.option("--tensors", is_flag=True, help="List every tensor.")
def show(file: str, tensors: bool) -> None:
    """Say what is in FILE.

    \b
    Examples:
      trainkit checkpoint show runs/digits/checkpoints/last.ckpt --tensors
    """
    with errors_as_messages():
        # Imported in the commands here, as these imports bring torch.
        from trainkit.checkpoint.describe import describe, list_tensors
        from trainkit.module.from_checkpoint import require_weights

        checkpoint = _read_form(file)
        require_weights(checkpoint, file)
        for label, text in describe(checkpoint):
            click.echo(f"{label:<16} {text}")
        for line in list_tensors(checkpoint) if tensors else ():
            click.echo(f"    {line}")


@command.command("verify")
@click.argument("files", type=click.Path(), nargs=-1, required=True, metavar="FILE...")
def verify(files: tuple[str, ...]) -> None:
    """Compare each FILE with its checksums, and read it; exit with 1 if one is damaged, or no checkpoint.

    \b
    Examples:
      trainkit checkpoint verify runs/digits/checkpoints/last.ckpt
      trainkit checkpoint verify checkpoints/*.ckpt
    """
    with errors_as_messages():
        from trainkit.errors import CheckpointError
        from trainkit.module.from_checkpoint import require_weights

        # All files are looked at, also after a damaged one.
        damaged = 0
        for file in files:
            try:
                require_weights(_read_form(file), file)
                click.echo(f"{printable(file)}: whole")
            except CheckpointError as error:
                damaged += 1
                click.echo(str(error))
        sys.exit(damaged > 0)


def _read_form(file: str) -> dict[str, Any]:
    """Return a checkpoint, all of which is as it was written. Of a sharded one the tensors are not kept."""
    from trainkit.storage.files import is_sharded, read_checkpoint
    from trainkit.storage.files import verify as check

    if is_sharded(file):
        check(file)
    return read_checkpoint(file, map_location="cpu", whole=False)


@command.command("diff")
@click.argument("first", type=click.Path())
@click.argument("second", type=click.Path())
@click.option("--all", "shows_all", is_flag=True, help=f"Show all differences, not the first {DIFFERENCES_SHOWN} only.")
def diff(first: str, second: str, shows_all: bool) -> None:
    """Say in what FIRST and SECOND differ, bit for bit; exit with 1 if they do.

    \b
    Examples:
      trainkit checkpoint diff first.ckpt second.ckpt --all
    """
    with errors_as_messages():
        from trainkit.checkpoint.diff import differences
        from trainkit.storage.files import read_checkpoint

        one, other = (read_checkpoint(file, map_location="cpu") for file in (first, second))
        found = differences(one, other)  # an iterator, of which the rest is only counted
        shown = list(found if shows_all else islice(found, DIFFERENCES_SHOWN))
        rest = sum(1 for _ in found)
        for difference in shown:
            click.echo(str(difference))
        if rest:
            click.echo(f"and {rest} more, which --all shows")
        if not shown:
            click.echo("equal")
        sys.exit(bool(shown))


@command.command("convert")
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@click.option("--trust", is_flag=True, help="I would let whoever made OLD run a program on this machine.")
def convert(old: str, new: str, trust: bool) -> None:
    """Make one file NEW, which loads safely, of OLD: a sharded checkpoint, or one that does not load safely.

    Of a sharded checkpoint, a folder, one file is made, and nothing in it is run. Anything else, such as a checkpoint
    of Lightning with objects in it, is unpickled, and whatever code is in it is run. No other command does so.

    \b
    Examples:
      trainkit checkpoint convert sharded.ckpt whole.ckpt
      trainkit checkpoint convert lightning.ckpt safe.ckpt --trust
    """
    with errors_as_messages():
        from trainkit.storage.files import is_sharded
        from trainkit.storage.files import verify as check

        if os.path.exists(new) and os.path.exists(old) and not os.path.samefile(old, new):
            raise click.UsageError(f"{printable(new)} is there already, and is left as it is. Give another name.")
        if is_sharded(old):
            from trainkit.checkpoint.join_shards import join_shards

            join_shards(old, new)
            click.echo(f"written to {printable(new)}")
            return
        # Ahead of what is said about code in it: there may be no such file, or a damaged one.
        check(old)
        if not trust:
            raise click.UsageError(
                f"convert unpickles {printable(old)}, which runs whatever code is in it. If you would let whoever made "
                "it run a program on this machine, say --trust."
            )
        from trainkit.checkpoint.convert import convert_checkpoint

        click.echo(f"unpickling {printable(old)}, code in it included")
        for place in convert_checkpoint(old, new):
            click.echo(f"left out, because it cannot be loaded safely: {printable(place)}")
        click.echo(f"written to {printable(new)}")


@command.command("export")
@click.argument("file", type=click.Path())
@click.argument("output", type=click.Path(), metavar="OUTPUT.safetensors")
@click.option("--prefix", default="", help="Only weights whose names begin so, and without it; such as net.")
def export(file: str, output: str, prefix: str) -> None:
    """Write the weights of FILE in the format of safetensors. Needs the extra `export`.

    \b
    Examples:
      trainkit checkpoint export last.ckpt net.safetensors --prefix net.
    """
    with errors_as_messages():
        from trainkit.checkpoint.export import export_weights

        for name in export_weights(file, output, prefix=prefix):
            click.echo(f"left out, because it is no tensor: {printable(name)}")
        click.echo(f"written to {printable(output)}")
