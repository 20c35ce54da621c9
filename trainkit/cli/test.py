"""``trainkit test``: runs a trained module over the test data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trainkit.cli.configured import configured, warn_about_fresh_weights

if TYPE_CHECKING:
    from trainkit.config.build import ConfiguredRun


@click.command("test", short_help="Metrics on the test data.")
@configured
def command(run: ConfiguredRun) -> None:
    """Run the module that CONFIG describes over the test data and print its metrics.

    \b
    Examples:
      trainkit test config.yaml ckpt_path=last
    """
    warn_about_fresh_weights(run)
    run.trainer.test(run.module, datamodule=run.datamodule, ckpt_path=run.ckpt_path)
