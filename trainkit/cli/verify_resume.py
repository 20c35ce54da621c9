"""``trainkit verify-resume``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainkit.checks import is_whole
from trainkit.cli.configured import errors_as_messages

if TYPE_CHECKING:
    from trainkit.config.schema import Config
    from trainkit.testing.first_divergence import Divergence

MOST_VALIDATION_BATCHES = 3


@click.command("verify-resume")
@click.argument("config", type=click.Path())
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
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
    that several fit in. It exits with 1 if anything differs, and names what differs first.

    \b
      trainkit verify-resume config.yaml
      trainkit verify-resume config.yaml data.num_workers=4 --steps 50
    """
    with errors_as_messages():
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        if trace_into is not None:
            _trace([*overrides], config, Path(trace_into), steps, checkpoint)
            return
        with tempfile.TemporaryDirectory(prefix="trainkit-") as temporary:
            folder = Path(keep or temporary).resolve()
            sys.exit(_verify(config, overrides, steps, folder))


def _verify(config: str, overrides: tuple[str, ...], steps: int, folder: Path) -> int:
    from trainkit.config import read
    from trainkit.testing.first_divergence import first_divergence
    from trainkit.testing.trace import STOPS, read_events, read_stops

    shorter = [*overrides, *_shortened(read(config, overrides), steps)]

    def run(name: str, *options: str) -> Path:
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        own = [*shorter, f"trainer.default_root_dir={place}", "--steps", str(steps), "--trace-into", str(place)]
        _run_in_new_process(["verify-resume", config, *own, *options], place / "output.txt")
        return place

    click.echo(f"training {config} for {steps} batches, twice")
    whole, again = run("whole"), run("again")
    found = first_divergence(whole, again, from_the_start=True)
    if found is not None:
        click.echo("    DIFFERENT")
        _tell(found, set())
        return 1
    click.echo(f"    equal in {len(read_events(whole))} things\ncontinuing it from")
    stops = read_stops(whole)
    differ, told = 0, set[str]()
    for stop in stops:
        resumed = run(f"from-{Path(stop.checkpoint).stem}", "--from", str(whole / stop.checkpoint))
        found = first_divergence(whole, resumed, stop.events)
        place = f"{STOPS[stop.kind]} ({stop.when})"
        click.echo(f"    {place:<72} {'equal' if found is None else 'DIFFERS'}")
        if found is not None:
            differ += 1
            _tell(found, told)
    missed = [place for kind, place in STOPS.items() if kind not in {stop.kind for stop in stops}]
    if missed:
        click.echo(textwrap.fill(f"not tried, as the run never was there: {', '.join(missed)}", 110))
    click.echo("it continues exactly" if not differ else f"it does not continue exactly from {differ} of {len(stops)}")
    return int(differ > 0)


def _shortened(config: Config, steps: int) -> list[str]:
    """Return overrides with which epochs and validations are short enough to see several of each."""
    given, two_epochs = config.trainer, -(-steps // 2)
    epoch = _at_most(two_epochs, given.get("limit_train_batches"))
    overrides: dict[str, object] = {
        "limit_train_batches": epoch,
        "limit_val_batches": _at_most(MOST_VALIDATION_BATCHES, given.get("limit_val_batches")),
        "logger": "false",
    }
    if given.get("max_epochs") in (None, 1):
        overrides["max_epochs"] = 2
    interval = given.get("val_check_interval")
    if is_whole(interval) and given.get("check_val_every_n_epoch", 1) is not None:
        overrides["val_check_interval"] = _at_most(max(1, epoch // 2), interval)
    if not given.get("barebones"):
        overrides["log_every_n_steps"] = 1
    return [f"trainer.{name}={value}" for name, value in overrides.items()]


def _at_most(most: int, given: Any) -> int:
    return min(given, most) if is_whole(given) else most


def _run_in_new_process(arguments: list[str], output: Path) -> None:
    command = [sys.executable, "-m", "trainkit", *arguments]
    # What can be imported here can be imported there.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with open(output, "wb") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        click.echo(output.read_text(encoding="utf-8", errors="replace")[-4000:], err=True)
        sys.exit(done.returncode)


def _tell(found: Divergence, told: set[str]) -> None:
    click.echo(f"        first        {found.when}: {found.what}")
    if found.cause not in told:
        told.add(found.cause)
        label = "        likely cause "
        click.echo(textwrap.fill(found.cause, 110, initial_indent=label, subsequent_indent=" " * len(label)))


def _trace(overrides: list[str], config: str, folder: Path, steps: int, checkpoint: str | None) -> None:
    """Be one of the runs: train, write down what happens, and stop after some batches."""
    from trainkit.config import build, read
    from trainkit.testing.trace import Enough, RunTrace

    run = build(read(config, overrides))
    for callback in run.trainer.checkpoint_callbacks:
        if callback.dirpath is not None:
            callback.dirpath = str(folder / "checkpoints")
    trace = RunTrace(folder, steps, saves=checkpoint is None)
    # Behind everything else: what it saves is then what all of them have done.
    run.trainer.hooks.register(trace)
    try:
        run.trainer.fit(run.module, datamodule=run.datamodule, ckpt_path=checkpoint or run.ckpt_path)
    except Enough:
        pass
