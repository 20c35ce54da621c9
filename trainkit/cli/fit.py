"""``trainkit fit``: trains, and continues a run with ``--resume``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trainkit.cli.configured import configured
from trainkit.storage.output import say

if TYPE_CHECKING:
    from trainkit.config.build import ConfiguredRun


@click.command("fit")
@click.option("--resume", is_flag=True, help="Continue the last run below default_root_dir, or begin the first.")
@click.option("--take", metavar="NAMES", help="Of what a continued run uses the code's value, such as lr,T_max.")
@configured
def command(run: ConfiguredRun, resume: bool, take: str | None) -> None:
    """Train the module that CONFIG describes.

    Each KEY=VALUE sets one key of the configuration, ~KEY removes one:

    \b
      trainkit fit config.yaml trainer.max_epochs=20 callbacks.early_stopping=null
      trainkit fit config.yaml ckpt_path=last

    With --resume a job that was stopped is started again by the same command, and goes on exactly where it was. What
    the optimizers and schedulers were made with goes on too, unless --take names what is to be changed.
    """
    ckpt_path = _last(run) if resume else run.ckpt_path
    # The first run of a job that is always started with --resume has nothing to take values over.
    take = None if resume and ckpt_path is None else take
    run.trainer.fit(run.module, datamodule=run.datamodule, ckpt_path=ckpt_path, take=take or ())


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
