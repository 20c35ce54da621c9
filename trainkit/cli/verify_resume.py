"""``trainkit verify-resume``: compares a run that was continued from checkpoints with one that never stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainkit.checks import is_whole
from trainkit.cli.configured import (
    build_words,
    configuration,
    errors_as_messages,
    import_from_current_folder,
    read_words,
)
from trainkit.printable import printable

if TYPE_CHECKING:
    from trainkit.config.schema import Config
    from trainkit.testing.first_divergence import Divergence
    from trainkit.testing.lost import Lost
    from trainkit.testing.trace import Stop

MAX_VALIDATION_BATCHES = 3  # more than one, so that a run can be stopped within a validation
MOST_LOST = 8  # so many objects are named at most, of those that hold something else


@click.command("verify-resume", short_help="Prove that a run continues exactly.")
@configuration
@click.option("--steps", default=20, show_default=True, type=click.IntRange(min=4), help="Training batches to run.")
@click.option("--keep", type=click.Path(file_okay=False), help="Keep checkpoints and traces in this folder.")
@click.option("--trace-into", hidden=True, help="Be one of the runs that are compared.")
@click.option("--from", "checkpoint", hidden=True, help="Continue from this checkpoint.")
def command(
    config: str,
    overrides: tuple[str, ...],
    steps: int,
    keep: str | None,
    trace_into: str | None,
    checkpoint: str | None,
) -> None:
    """Prove that the run that CONFIG describes continues exactly, wherever it is stopped.

    It trains for some batches, and saves at several places: behind a batch, within an accumulation group, in a
    validation, at the end of an epoch. From each it continues in a new process, and compares every weight, optimizer
    entry, random number, batch, loss and row with the run that never stopped. Epochs and validations are shortened, so
    that several fit in. It exits with 1 if anything differs, and names what differs first, and what your own objects
    (the module, callbacks, the data, globals) no longer held when the run went on.

    \b
    Examples:
      trainkit verify-resume config.yaml
      trainkit verify-resume config.yaml data.num_workers=4 --steps 50
    """
    with errors_as_messages():
        import_from_current_folder()
        # The command starts itself in a new process for each run, as a run that is resumed has nothing of what an
        # earlier process kept in memory.
        if trace_into is not None:
            _trace([*overrides], config, Path(trace_into), steps, checkpoint)
            return
        with tempfile.TemporaryDirectory(prefix="trainkit-") as temporary:
            folder = Path(keep or temporary).resolve()
            sys.exit(_verify(config, overrides, steps, folder))


def _verify(config: str, overrides: tuple[str, ...], steps: int, folder: Path) -> int:
    """Make all runs, print what is equal and what differs, and return the exit code."""
    from trainkit.testing.first_divergence import first_divergence
    from trainkit.testing.trace import STOPS, read_events, read_stops

    given = read_words(config, overrides)
    _refuse_several_ranks(given)
    shorter = [*overrides, *_shortened(given, steps)]
    run = partial(_run, ["verify-resume", config, *shorter, "--steps", str(steps)], folder)
    # Twice from the start: if these differ, nothing that is found after a resume would be the fault of resuming.
    click.echo(f"training {config} for {steps} batches, twice")
    try:
        whole, again = run("whole"), run("again")
    except _FailedError as failure:
        click.echo(failure.output, err=True)
        return failure.code
    found = first_divergence(whole, again, from_the_start=True)
    if found is not None:
        click.echo("    DIFFERENT")
        _tell(found, set(), [])
        return 1
    click.echo(f"    equal in {len(read_events(whole))} things\ncontinuing it from")
    stops = read_stops(whole)
    told: set[str] = set()
    idle: dict[str, Lost] = {}
    differ = sum(not _continues_exactly(stop, run, whole, again, told, idle) for stop in stops)
    missed = [place for kind, place in STOPS.items() if kind not in {stop.kind for stop in stops}]
    if missed:
        click.echo(textwrap.fill(f"not tried, as the run never was there: {', '.join(missed)}", 110))
    if idle and not differ:
        click.echo("lost at a stop, though nothing that was compared depends on it in these batches:")
        _tell_lost([*idle.values()], told)
    click.echo("it continues exactly" if not differ else f"it does not continue exactly from {differ} of {len(stops)}")
    return int(differ > 0)


def _continues_exactly(
    stop: Stop, run: Callable[..., Path], whole: Path, again: Path, told: set[str], idle: dict[str, Lost]
) -> bool:
    """Continue the run from ``stop`` and say how it went; return whether nothing differs.

    Args:
        stop: Where it was saved.
        run: Makes a run.
        whole: The folder of the run that never stopped.
        again: That of the same run, made once more.
        told: What was said before; gains what is said here.
        idle: Gains what was lost without a difference.
    """
    from trainkit.testing.first_divergence import first_divergence
    from trainkit.testing.lost import lost_at_first, lost_for_good
    from trainkit.testing.trace import STOPS

    place = f"{STOPS[stop.kind]} ({stop.when})"
    try:
        resumed = run(f"from-{Path(stop.checkpoint).stem}", "--from", str(whole / stop.checkpoint))
    except _FailedError as failure:
        click.echo(f"    {place:<72} FAILS")
        click.echo(textwrap.indent(failure.output.strip(), " " * 8))
        return False
    found = first_divergence(whole, resumed, stop.events)
    click.echo(f"    {place:<72} {'equal' if found is None else 'DIFFERS'}")
    if found is None:
        idle |= {each.name: each for each in lost_for_good(whole, again, resumed)}
    else:
        _tell(found, told, lost_at_first(whole, again, resumed))
    return found is None


def _run(arguments: list[str], folder: Path, name: str, *options: str) -> Path:
    """Make one run in a new process; return the folder in ``folder`` that it is traced into."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    own = [f"trainer.default_root_dir={place}", "--trace-into", str(place)]
    _run_in_new_process([*arguments, *own, *options], place / "output.txt")
    return place


def _refuse_several_ranks(config: Config) -> None:
    """Raise `ConfigError` if the run would be one of several processes, whose traces would mix."""
    from trainkit.errors import ConfigError

    devices = config.trainer.get("devices", 1)
    several = devices > 1 if isinstance(devices, int) else isinstance(devices, list) and len(devices) > 1
    if several or os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError(
            "verify-resume compares runs of one process, and this would be one of several.\n"
            "    write        trainer.devices=1, and start it without torchrun"
        )


def _shortened(config: Config, steps: int) -> list[str]:
    """Return overrides with which epochs and validations are short enough to see several of each."""
    # Half of the steps, rounded up, so that a second epoch begins.
    given, half = config.trainer, -(-steps // 2)
    epoch = _at_most(half, given.get("limit_train_batches"))
    overrides: dict[str, object] = {
        "limit_train_batches": epoch,
        "limit_val_batches": _at_most(MAX_VALIDATION_BATCHES, given.get("limit_val_batches")),
        "logger": "false",
    }
    if given.get("max_epochs") in (None, 1):
        overrides["max_epochs"] = 2
    # A whole number counts batches, and may be longer than the shortened epoch. A share of an epoch still fits.
    interval = given.get("val_check_interval")
    if is_whole(interval) and given.get("check_val_every_n_epoch", 1) is not None:
        overrides["val_check_interval"] = _at_most(max(1, epoch // 2), interval)
    elif isinstance(interval, str) and ":" not in interval:  # one with a unit, which may come long after these batches
        overrides["val_check_interval"] = max(1, epoch // 2)
    # A row for each update, so that more is compared. `barebones` forbids logging.
    if not given.get("barebones"):
        overrides["log_every_n_steps"] = 1
    return [f"trainer.{name}={value}" for name, value in overrides.items()]


def _at_most(most: int, given: Any) -> int:
    """Return ``given`` but no more than ``most``; ``most`` if ``given`` is no whole number."""
    return min(given, most) if is_whole(given) else most


def _run_in_new_process(arguments: list[str], output: Path) -> None:
    """Run ``trainkit`` with ``arguments``.

    Raises:
        _FailedError: If it fails.
    """
    command = [sys.executable, "-m", "trainkit", *arguments]
    # What can be imported here can be imported there.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with open(output, "wb") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        raise _FailedError(done.returncode, output.read_text(encoding="utf-8", errors="replace")[-4000:])


class _FailedError(Exception):
    """A run failed, with an exit code and the end of what it printed."""

    def __init__(self, code: int, output: str) -> None:
        super().__init__(output)
        self.code, self.output = code, output


def _tell(found: Divergence, told: set[str], lost: list[Lost]) -> None:
    """Print a difference, what was ``lost``, and the likely cause, unless these have been ``told`` before."""
    click.echo(f"        first        {printable(f'{found.when}: {found.what}')}")
    _tell_lost(lost, told)  # ahead of the cause, which is a guess
    if found.cause not in told:
        told.add(found.cause)
        label = "        likely cause "
        click.echo(textwrap.fill(found.cause, 110, initial_indent=label, subsequent_indent=" " * len(label)))


def _tell_lost(lost: list[Lost], told: set[str]) -> None:
    """Print what objects no longer hold, each once."""
    new = [each for each in lost if each.name not in told]
    told.update(each.name for each in new)
    for each in new[:MOST_LOST]:
        label = "        lost         "
        text = f"{each.name}: {each.was} without the stop, {each.now} after it. To keep it, {each.to_do}"
        click.echo(textwrap.fill(printable(text), 110, initial_indent=label, subsequent_indent=" " * len(label)))
    if len(new) > MOST_LOST:
        click.echo(f"        and {len(new) - MOST_LOST} more")


def _trace(overrides: list[str], config: str, folder: Path, steps: int, checkpoint: str | None) -> None:
    """Make one of the runs in this process: train, trace it into ``folder``, and stop after ``steps`` batches."""
    from trainkit.testing.trace import Enough, RunTrace

    run = build_words(config, overrides)
    # The user's checkpoints go into the folder of this run, not over those of the user's own runs.
    for callback in run.trainer.checkpoint_callbacks:
        if callback.dirpath is not None:
            callback.dirpath = str(folder / "checkpoints")
    trace = RunTrace(folder, steps, saves=checkpoint is None)
    # Registered last, so that it is called last: what it saves includes the work of all others.
    run.trainer.hooks.register(trace)
    try:
        run.trainer.fit(run.module, datamodule=run.datamodule, ckpt_path=checkpoint or run.ckpt_path)
    except Enough:
        pass
