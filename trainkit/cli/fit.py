"""``trainkit fit``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trainkit.cli.configured import configured

if TYPE_CHECKING:
    from trainkit.config.build import ConfiguredRun


@click.command("fit")
@configured
def command(run: ConfiguredRun) -> None:
    """Train the module that CONFIG describes.

    Each KEY=VALUE sets one key of the configuration, ~KEY removes one:

    \b
      trainkit fit config.yaml trainer.max_epochs=20 callbacks.early_stopping=null
      trainkit fit config.yaml ckpt_path=last
    """
    run.trainer.fit(run.module, datamodule=run.datamodule, ckpt_path=run.ckpt_path)
