"""``trainkit fit``: trains, and continues a run with ``--resume``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from trainkit.cli.configured import configured
from trainkit.cli.explain import explain
from trainkit.output import say
from trainkit.record.command_line import command_line

if TYPE_CHECKING:
    from trainkit.config.build import ConfiguredRun
    from trainkit.data.resume.other_data import Resume


STOPPED = range(129, 160)
"""The exit codes of a process that a signal has ended: 128 and the number of the signal."""


@click.command("fit", short_help="Train the module that CONFIG describes.")
@click.option("--resume", is_flag=True, help="Continue the last run below default_root_dir, or begin the first.")
@click.option(
    "--resume-data",
    type=click.Choice(["exact", "next_epoch", "anyway"]),
    default="exact",
    show_default=True,
    help="What to do if the data changed in the middle of an epoch: an error, leave out its rest, or go on anyway.",
)
@click.option("--take", metavar="NAMES", help="Of what a continued run uses the code's value, such as lr,T_max.")
@click.option("--timing", is_flag=True, help="Tell at the end where the time went: by share, plugin and hook.")
@click.option("--dry-run", is_flag=True, help="Say what it is going to do, as `trainkit explain` does, and end.")
@configured
def command(
    run: ConfiguredRun, resume: bool, resume_data: Resume, take: str | None, timing: bool, dry_run: bool
) -> None:
    """Train the module that CONFIG describes.

    Each KEY=VALUE sets one key of the configuration, ~KEY removes one.

    \b
    Examples:
      trainkit fit config.yaml trainer.max_epochs=20 callbacks.early_stopping=null
      trainkit fit config.yaml ckpt_path=last

    With --resume a job that was stopped is started again by the same command, and goes on exactly where it was. What
    the optimizers and schedulers were made with goes on too, unless --take names what is to be changed.
    """
    # Here, since it needs torch, for which the help of the command shall not wait.
    from trainkit.callbacks.builtin.fit_report import report_of
    from trainkit.profilers.simple import measure_time

    ckpt_path = _last(run) if resume else run.ckpt_path
    if dry_run:
        explain(replace(run, ckpt_path=ckpt_path))
        return
    # The first run of a job that is always started with --resume has nothing to take values over.
    take = None if resume and ckpt_path is None else take
    if timing:
        measure_time(run.trainer)
    report = report_of(run.trainer)
    if report is not None:
        report.command = _command()
    try:
        run.trainer.fit(run.module, datamodule=run.datamodule, ckpt_path=ckpt_path, take=take or (), resume=resume_data)
    except (KeyboardInterrupt, SystemExit) as stop:
        _tell_how_to_go_on(run, stop)
        raise


def _tell_how_to_go_on(run: ConfiguredRun, stop: BaseException) -> None:
    """After a signal, print the command that continues the run, if there is one to continue and nothing has told it."""
    from trainkit.callbacks.builtin.fit_report import report_of
    from trainkit.checkpoint.locate import any_checkpoint

    # A shell's codes for signals begin above 128. Any other end was asked for by the user's code.
    by_signal = isinstance(stop, KeyboardInterrupt) or (isinstance(stop, SystemExit) and (stop.code or 0) in STOPPED)
    report = report_of(run.trainer)
    has_told = report is not None and report.tells
    if by_signal and not has_told and run.trainer.is_global_zero and any_checkpoint(run.trainer.checkpoint_roots):
        say(f"to go on: {_command()}", err=True)


def _command() -> str:
    """Return the command that continues the run, without the passwords in it."""
    given = click.get_current_context().params
    without = (f"--no-plugin={name}" for name in given["without"])
    options = [*without, *(["--timing"] if given["timing"] else []), "--resume"]
    return command_line(["trainkit", "fit", given["config"], *given["overrides"], *options])


def _last(run: ConfiguredRun) -> str | None:
    """Return the ``ckpt_path`` that continues the last run, or that of the configuration if there is no run yet."""
    # "last" without a checkpoint is an error of `fit`. Here a first start is meant as well, so that a scheduler can run
    # one command again and again.
    from trainkit.checkpoint.locate import any_checkpoint

    roots = run.trainer.checkpoint_roots
    if any_checkpoint(roots):
        return "last"
    say(f"note: there is no run to continue below {' or '.join(roots)}; this is the first.", err=True)
    return run.ckpt_path
