"""``trainkit predict``: predicts, and writes the predictions to a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trainkit.cli.configured import configured, warn_about_fresh_weights
from trainkit.storage.output import say

if TYPE_CHECKING:
    from trainkit.config.build import ConfiguredRun


@click.command("predict")
@click.option("--output", default="predictions.pt", show_default=True, help="The file to write.")
@configured
def command(run: ConfiguredRun, output: str) -> None:
    """Predict with the module that CONFIG describes, and write what predict_step returned, batch by batch.

    \b
      trainkit predict config.yaml ckpt_path=last --output predictions.pt
    """
    import torch

    warn_about_fresh_weights(run)
    predictions = run.trainer.predict(run.module, datamodule=run.datamodule, ckpt_path=run.ckpt_path)
    # Each rank has the predictions of its own batches; the file has those of rank 0.
    if run.trainer.is_global_zero:
        torch.save(predictions, output)
        say(f"predictions written to {output}")
