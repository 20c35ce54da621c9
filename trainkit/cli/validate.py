"""``trainkit validate``: runs a trained module over the validation data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trainkit.cli.configured import configured, warn_about_fresh_weights

if TYPE_CHECKING:
    from trainkit.config.build import ConfiguredRun


@click.command("validate", short_help="Metrics on the validation data.")
@configured
def command(run: ConfiguredRun) -> None:
    """Run the module that CONFIG describes over the validation data and print its metrics.

    \b
    Examples:
      trainkit validate config.yaml ckpt_path=last
    """
    warn_about_fresh_weights(run)
    run.trainer.validate(run.module, datamodule=run.datamodule, ckpt_path=run.ckpt_path)
