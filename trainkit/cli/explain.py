"""``trainkit explain``: what ``trainkit fit`` would do, on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trainkit.cli.configured import configured
from trainkit.output import say

if TYPE_CHECKING:
    from trainkit.config.build import ConfiguredRun


@click.command("explain", short_help="Say what fit is going to do; train nothing.")
@configured
def command(run: ConfiguredRun) -> None:
    """Say what `trainkit fit CONFIG` is going to do, on one page; train and write nothing.

    \b
    Examples:
      trainkit explain config.yaml
      trainkit explain config.yaml trainer.accumulate_grad_batches=4 ckpt_path=last

    It tells device and precision, the length of the run, the optimizer and its rates, which step runs and why, what is
    written where, and which plugins are called when. The data is prepared and set up for that, as fit does.
    """
    explain(run)


def explain(run: ConfiguredRun) -> None:
    """Print what a fit of ``run`` is going to do."""
    told = run.trainer.explain(run.module, datamodule=run.datamodule, ckpt_path=run.ckpt_path)
    if run.trainer.is_global_zero:
        say(told)
