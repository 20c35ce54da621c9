"""Shared by the commands that run a configuration: arguments, building the run, showing errors."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from trainkit.errors import ConfigError, PluginError, TrainkitError
from trainkit.output import say

if TYPE_CHECKING:
    from trainkit.config.build import ConfiguredRun
    from trainkit.config.schema import Config

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])

USAGE_ERROR = 2  # click's own code for a wrong command line
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def configuration(function: F, *, required: bool = True) -> F:
    """Give a command the arguments ``CONFIG [CONFIG]... [KEY=VALUE]...``, which shells complete.

    Args:
        function: What is to be a command, with the arguments ``config`` and ``overrides``.
        required: Whether there has to be a file.
    """
    metavar = "[CONFIG]... [KEY=VALUE]..."
    behind = click.argument("overrides", nargs=-1, metavar=metavar, shell_complete=completed_by("words"))
    first = click.argument("config", type=click.Path(), required=required, shell_complete=completed_by("files"))
    return first(behind(function))


def completed_by(name: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return the function of `trainkit.cli.complete` that has this name, imported when a shell asks.

    Args:
        name: Its name.
    """

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        from trainkit.cli import complete

        found: list[str] = getattr(complete, name)(ctx, param, incomplete)
        return found

    return complete


def configured(action: Callable[Concatenate[ConfiguredRun, P], None]) -> Callable[..., None]:
    """Make a command of ``action``, with the arguments ``CONFIG [KEY=VALUE]...``, ``--no-plugin`` and ``--debug``.

    Args:
        action: Called with the run that the arguments describe, and with the values of its own options.
    """

    @configuration
    @click.option(
        "--no-plugin",
        "without",
        multiple=True,
        metavar="NAME",
        shell_complete=completed_by("callback_names"),
        help="Leave out a callback, or all callbacks of a package. Can be given several times.",
    )
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(action)
    def command(
        config: str,
        overrides: tuple[str, ...],
        without: tuple[str, ...],
        debug: bool,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        run = build_words(config, overrides, without, debug=debug)
        with errors_as_messages(debug):
            action(run, *args, **kwargs)

    return command


def build_words(
    config: str, words: Sequence[str], without: Sequence[str] = (), *, debug: bool = False
) -> ConfiguredRun:
    """Return the run that words of the command line describe. What is wrong with them ends the program with 2.

    Args:
        config: The first file.
        words: What comes behind it.
        without: Plugins to leave out.
        debug: Whether to raise errors, with the traceback.
    """
    with errors_as_messages(debug, building=True):
        import_from_current_folder()
        from trainkit.config import build

        return build(read_words(config, words, without))


def read_words(config: str, words: Sequence[str], without: Sequence[str] = ()) -> Config:
    """Return the configuration that words of the command line describe: further files, then overrides.

    Args:
        config: The first file.
        words: What comes behind it.
        without: Plugins to leave out.
    """
    from trainkit.config import read
    from trainkit.config.files import is_file_name

    files = [word for word in words if is_file_name(word)]
    return read([config, *files], [word for word in words if word not in files], without)


def import_from_current_folder() -> None:
    """Let modules in the current folder be named as targets, as the script ``trainkit`` has only its own on the path.

    The folder comes last: a file in it that is called as a package is, such as ``yaml.py``, would be imported by every
    package that means the other one. Whoever wants it first says so with ``PYTHONPATH``.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def warn_about_fresh_weights(run: ConfiguredRun) -> None:
    """Print a note if a command that needs trained weights runs without a checkpoint."""
    if run.ckpt_path is None:
        say("note: the weights are freshly initialised; ckpt_path=PATH (or last) loads trained ones.", err=True)


@contextmanager
def errors_as_messages(debug: bool = False, *, building: bool = False) -> Iterator[None]:
    """Print errors of trainkit without a traceback and exit: 2 for a wrong configuration, 1 for others, 130 on Ctrl-C.

    Args:
        debug: Whether to raise them instead, with the traceback.
        building: Whether what a configuration names is being built, and nothing was started. Then all errors, those of
            the user's constructors too, say what is wrong in the configuration.
    """
    # Else only those of trainkit, whose messages say what to do. Any other is a bug, in the user's code or here, and
    # keeps its traceback.
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except TrainkitError as error:
        if debug:
            raise
        _tell(error)
        sys.exit(USAGE_ERROR if building or isinstance(error, ConfigError | PluginError) else 1)
    except Exception as error:
        if debug or not building:
            raise
        _tell(error, f"    raised at    {_place_of(error)}", f"    to do        {_how_to_debug()} shows the traceback")
        sys.exit(USAGE_ERROR)


def _tell(error: Exception, *more: str) -> None:
    notes = "".join(f"\n{note}" for note in (*getattr(error, "__notes__", ()), *more))
    # A private subclass is a matter of the code that raises it.
    name = next(each.__name__ for each in type(error).__mro__ if not each.__name__.startswith("_"))
    say(f"{name}: {error}{notes}", err=True)


def _how_to_debug() -> str:
    context = click.get_current_context(silent=True)
    return "--debug" if context and "debug" in context.params else "trainkit config CONFIG --check --debug"


def _place_of(error: Exception) -> str:
    """Return file and line where ``error`` was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
