"""``trainkit init``: a small project that trains, to be changed into one's own."""

from __future__ import annotations

from pathlib import Path

import click

from trainkit.cli.configured import errors_as_messages
from trainkit.cli.written import write_folder
from trainkit.output import say

_FILES = {name: f"{name}.txt" for name in ("module.py", "data.py", "config.yaml", "test_project.py", "README.md")}


@click.command("init", short_help="Make a small project that trains.")
@click.argument("folder", type=click.Path())
def command(folder: str) -> None:
    """Make a project in FOLDER: a module, data, a configuration and a test, which train in a few seconds.

    \b
    Examples:
      trainkit init moons
      cd moons && trainkit fit config.yaml && pytest
    """
    with errors_as_messages():
        made = write_folder(Path(folder), "project_template", _FILES, {"name": Path(folder).absolute().name})
        say(f"written to {made}\n    next         cd {made} && trainkit fit config.yaml && pytest")
