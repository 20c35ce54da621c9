"""``trainkit plugin new``: a package with a callback, its test and its CI, to be filled in."""

from __future__ import annotations

import re
from pathlib import Path

import click
from packaging.version import Version

from trainkit import __version__
from trainkit.cli.configured import errors_as_messages
from trainkit.cli.written import write_folder
from trainkit.errors import ConfigError
from trainkit.output import say
from trainkit.plugins import catalog

_FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "{package}/__init__.py": "init.py.txt",
    "{package}/callback.py": "callback.py.txt",
    "{package}/py.typed": None,
    "tests/test_callback.py": "test.py.txt",
    ".github/workflows/test.yml": "ci.yml.txt",
}
"""The files of the package, and the template of each; None for an empty one."""


@click.group("plugin", short_help="Write a plugin of your own.")
def command() -> None:
    """Write a plugin of your own.

    \b
    Examples:
      trainkit plugin new loss-printer
    """


@command.command("new")
@click.argument("name")
@click.option("--into", type=click.Path(), default=".", show_default=True, help="The folder in which to make it.")
def new(name: str, into: str) -> None:
    """Make a package with a callback NAME, its test and its CI.

    \b
    Examples:
      trainkit plugin new loss-printer
      cd trainkit-loss-printer && pip install -e '.[test]' && pytest
    """
    with errors_as_messages():
        folder = write_package(name, Path(into))
        say(f"written to {folder}\n    next         cd {folder} && pip install -e '.[test]' && pytest")


def write_package(name: str, into: Path) -> Path:
    """Write the package of a callback, and return its folder.

    Args:
        name: The name of the callback in any spelling, such as ``loss-printer`` or ``LossPrinter``; with or without
            ``trainkit-``.
        into: Where the folder of the package is made.

    Raises:
        ConfigError: If the name cannot be one of Python, or there is such a folder already.
    """
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-_. ]+", "_", name).lower().strip("_").removeprefix("trainkit_")
    if not re.fullmatch("[a-z][a-z0-9_]*", snake) or snake == "trainkit":
        raise ConfigError(f"{name!r} cannot be the name of a plugin.\n    allowed      letters, digits, - and _")
    if any(entry.distribution == "trainkit" for entry in catalog.offered("callbacks", snake)):
        raise ConfigError(
            f"{snake!r} is trainkit's own callback, and a package cannot take its name. Choose another one."
        )
    folder = into / f"trainkit-{snake.replace('_', '-')}"
    values = {
        "name": snake,
        "distribution": folder.name,
        "package": f"trainkit_{snake}",
        "callback": "".join(part.capitalize() for part in snake.split("_")),
        "version": __version__,
        # Until version 1 a minor version may change what plugins rely on.
        "next_version": _next_minor(__version__),
    }
    return write_folder(folder, "plugin_template", _FILES, values)


def _next_minor(version: str) -> str:
    """Return the version from which on a plugin that was made for ``version`` may not work any more."""
    release = Version(version)
    return f"{release.major}.{release.minor + 1}"
