"""``trainkit predict``: predicts, and writes the predictions to a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainkit.cli.configured import configured, warn_about_fresh_weights
from trainkit.errors import ConfigError
from trainkit.output import say

if TYPE_CHECKING:
    from trainkit.config.build import ConfiguredRun


@click.command("predict", short_help="Predict, and write what comes of it.")
@click.option("--output", default="predictions.pt", show_default=True, help="The file to write.")
@configured
def command(run: ConfiguredRun, output: str) -> None:
    """Predict with the module that CONFIG describes, and write what predict_step returned, batch by batch.

    Folders of the file are made. One that cannot be written is an error before anything is predicted.

    \b
    Examples:
      trainkit predict config.yaml ckpt_path=last --output predictions.pt
    """
    # Every rank has the predictions of all of them, and rank 0 writes the file.
    if run.trainer.is_global_zero:
        from trainkit.storage.files import refuse_same_file

        refuse_same_file(run.ckpt_path or "", output)
        _check_writable(Path(output))
    warn_about_fresh_weights(run)
    predictions = run.trainer.predict(run.module, datamodule=run.datamodule, ckpt_path=run.ckpt_path)
    if run.trainer.is_global_zero:
        _save(predictions, Path(output))
        say(f"predictions written to {output}")


def _save(predictions: Any, output: Path) -> None:
    """Write the predictions: over a file whole or not at all, into a device or a pipe as they come."""
    import torch

    from trainkit.storage.atomic_write import replacing

    with replacing(output) if _may_be_replaced(output) else open(output, "wb") as file:
        torch.save(predictions, file)


def _may_be_replaced(output: Path) -> bool:
    return output.is_file() or not output.exists()


def _check_writable(output: Path) -> None:
    """Open the file that is to be written, and leave it as it was; its folders are made."""
    from trainkit.storage.atomic_write import check_writable

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.exists() and not (output.is_file() or output.is_dir()):
            return  # to open a pipe would wait for who reads from it, and end what he reads
        was_there = os.path.lexists(output)
        # For appending, so that what is in it stays until there is something to take its place.
        with output.open("ab"):
            pass
        if not was_there:
            output.unlink()
        # A file is built up in another one beside it.
        if _may_be_replaced(output):
            check_writable(output.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"--output {output} cannot be written: {reason}. Nothing was predicted.") from error
