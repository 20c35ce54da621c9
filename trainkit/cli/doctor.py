"""``trainkit doctor``: what is broken on this machine, and what will slow a run here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from trainkit.cli.configured import configuration, errors_as_messages, import_from_current_folder, read_words
from trainkit.errors import ConfigError
from trainkit.output import say

if TYPE_CHECKING:
    from trainkit.config.schema import Config
    from trainkit.doctor.report import Finding, Report
    from trainkit.doctor.speed import Seen


@click.command("doctor", short_help="Say what is broken here, and what will slow a run.")
@partial(configuration, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def command(config: str | None, overrides: tuple[str, ...], as_json: bool, debug: bool) -> None:
    """Look at this machine: versions, devices, disk, shared memory, plugins. With CONFIG also at a run on it.

    \b
    Examples:
      trainkit doctor
      trainkit doctor config.yaml trainer.accelerator=cpu
      trainkit doctor config.yaml --json

    With CONFIG the loader is timed by itself, then some steps of a fit of which nothing remains: no file is written,
    and no logger is called. It says which of them the run waits for, and what to change. It exits with 1 if something
    is broken, and with 0 if not, however slow it will be.
    """
    with errors_as_messages(debug):
        from trainkit.doctor.machine import examine
        from trainkit.doctor.report import Report

        report = Report()
        examine(report)
        if not report.is_broken:  # a configuration needs torch to be read, say
            _look_at_run(config, overrides, report, debug)
        if as_json:
            click.echo(json.dumps(report.as_json(), indent=2))
        else:
            say(report)
        sys.exit(report.is_broken)


def _look_at_run(config: str | None, words: Sequence[str], report: Report, debug: bool) -> None:
    """Add what is seen of where a run writes, and of the run that ``config`` describes."""
    from trainkit.doctor.places import disk

    import_from_current_folder()
    given = None if config is None else read_words(config, words)
    report.add(disk(str((given.trainer.get("default_root_dir") if given else None) or ".")))
    if given is None or report.is_broken:
        return
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("doctor tries one process, and this is one of several.\n    write        it without torchrun")
    _try(given, report, debug)


def _try(config: Config, report: Report, debug: bool) -> None:
    """Add what is seen of a few batches of the run that ``config`` describes."""
    from trainkit.doctor.report import Fact
    from trainkit.doctor.slow import CHECKS

    one = _on_one_device(config.trainer)
    if one:
        report.add([Fact("run", "tried on one device alone, as a process of its own would be needed for each")])
    try:
        # What the run prints is no part of the page.
        with redirect_stdout(sys.stderr):
            seen = _seen(config, one)
    # Of whatever kind: that the run fails, and why, is what was asked for. So is one that ends its own program.
    except (Exception, SystemExit) as error:
        if debug:
            raise
        report.add([_failure(error)])
        return
    report.speed = {name: getattr(seen, name) for name in ("first_s", "load_s", "step_s", "waited")}
    for check in CHECKS:
        report.add(check(seen))


def _seen(config: Config, changed: dict[str, Any]) -> Seen:
    """Build a run with some arguments of the Trainer ``changed``, and try it."""
    from trainkit.config import build
    from trainkit.doctor.speed import SKIPPED, TIMED, try_fit

    tried = replace(config, trainer=config.trainer | changed | {"fast_dev_run": SKIPPED + TIMED}, ckpt_path=None)
    run = build(tried)
    return try_fit(run.trainer, run.module, run.datamodule)


def _failure(error: BaseException) -> Finding:
    from trainkit.doctor.report import Finding

    first, *rest = [*str(error).splitlines(), *getattr(error, "__notes__", ())] or [""]
    why = "; ".join(" ".join(line.split()) for line in rest) or "that ends a fit"
    what = f"the run fails: {type(error).__name__}: {first.rstrip('.')}"
    return Finding("broken", what, why, "mend that; --debug tells where it is")


def _on_one_device(trainer: dict[str, Any]) -> dict[str, Any]:
    """Return arguments in whose place those given would start this program anew, on several ranks."""
    import torch

    devices, strategy = trainer.get("devices", "auto"), trainer.get("strategy", "auto")
    is_one = devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1)
    if trainer.get("num_nodes", 1) != 1 or not (is_one or devices == "auto"):
        return {"devices": 1, "num_nodes": 1, "strategy": "auto"}
    # A strategy may take all devices that there are.
    return {"devices": 1} if not is_one and strategy != "auto" and torch.cuda.device_count() > 1 else {}
