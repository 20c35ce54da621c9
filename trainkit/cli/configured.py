"""What all commands that run a configuration share: its arguments, how it is built, how errors are shown."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Concatenate, ParamSpec

import click

from trainkit.errors import ConfigError, TrainkitError

if TYPE_CHECKING:
    from trainkit.config.build import ConfiguredRun

P = ParamSpec("P")

USAGE_ERROR = 2
INTERRUPTED = 130


def configured(action: Callable[Concatenate[ConfiguredRun, P], None]) -> Callable[..., None]:
    """Give a command ``CONFIG [KEY=VALUE]...`` and ``--debug``; call ``action`` with the run they describe."""

    @click.argument("config", type=click.Path())
    @click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(action)
    def command(config: str, overrides: tuple[str, ...], debug: bool, *args: P.args, **kwargs: P.kwargs) -> None:
        with errors_as_messages(debug):
            # The user's own modules are found beside the configuration's caller, as `python -m` finds them.
            if os.getcwd() not in sys.path:
                sys.path.insert(0, os.getcwd())
            from trainkit.config import build, read

            action(build(read(config, overrides)), *args, **kwargs)

    return command


def warn_about_fresh_weights(run: ConfiguredRun) -> None:
    """Say so if a command that needs trained weights runs without a checkpoint."""
    if run.ckpt_path is None:
        click.echo("note: the weights are freshly initialised; ckpt_path=PATH (or last) loads trained ones.", err=True)


@contextmanager
def errors_as_messages(debug: bool = False) -> Iterator[None]:
    """Show errors of trainkit without a traceback, unless ``debug``, and exit with the code that stands for them."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except TrainkitError as error:
        if debug:
            raise
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        click.echo(f"{type(error).__name__}: {error}{notes}", err=True)
        sys.exit(USAGE_ERROR if isinstance(error, ConfigError) else 1)
