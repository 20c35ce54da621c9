"""Every public callback keeps the promises of callbacks; a new one is held to them as soon as it is exported."""

from __future__ import annotations

import inspect

import pytest

from trainkit import callbacks
from trainkit.testing import check_callback

NEEDED_ARGUMENTS = {
    "StochasticWeightAveraging": {"swa_lrs": 0.05, "swa_epoch_start": 1},
    "EarlyStopping": {"monitor": "val/loss"},
    "GradientAccumulationScheduler": {"scheduling": {0: 1, 1: 2}},
    "ModelCheckpoint": {"monitor": "val/loss", "save_last": True},
}

BASES = {"BackboneFinetuning", "BaseFinetuning", "Callback", "PredictionWriter"}
TO_DEFINE = {"PredictionWriter": "write_on_batch_end"}
"""Classes that are there to be subclassed, and the method that a subclass defines."""

PUBLIC = [name for name in callbacks.__all__ if name not in BASES and not inspect.isabstract(getattr(callbacks, name))]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_callback_keeps_its_promises(name, tmp_path):
    kind = getattr(callbacks, name)
    if name in TO_DEFINE:
        kind = type(name, (kind,), {TO_DEFINE[name]: lambda self, *arguments: None})
    arguments = dict(NEEDED_ARGUMENTS.get(name, {}))
    if name == "ModelCheckpoint":  # which takes no folder from a file
        arguments["dirpath"] = tmp_path
    check_callback(
        lambda: kind(**arguments),
        default_root_dir=tmp_path,
        log_every_n_steps=1,
        logger=callbacks.CSVLogger(tmp_path) if name in ("DeviceStatsMonitor", "LearningRateMonitor") else False,
        enable_checkpointing=name == "ModelCheckpoint",
        enable_progress_bar=name == "ProgressBar",
        enable_model_summary=name == "ModelSummary",
    )
