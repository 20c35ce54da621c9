"""`SavedConfig`, a callback that writes the configuration, overrides included, into the folder of the run."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainkit.callbacks.builtin.last_path import folder_of
from trainkit.config.read import read
from trainkit.config.schema import Config
from trainkit.errors import ConfigError
from trainkit.hooks.callback import Callback
from trainkit.output import warn
from trainkit.storage.remote import is_remote
from trainkit.storage.temporary import replacement

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class SavedConfig(Callback):
    """Write ``config.yaml`` into the folder of the run when a fit starts; one that goes on, when it begins to train.

    No file is replaced: beside one that differs, the next of ``config-v1.yaml``, ``config-v2.yaml`` ... is written.

    Args:
        config: The configuration of the run.
    """

    def __init__(self, config: Config) -> None:
        # What is kept is to repeat the run, and at its end these are other checkpoints.
        self.config = replace(config, ckpt_path=None) if config.ckpt_path in ("last", "best") else config

    def on_fit_start(self, trainer: Trainer) -> None:
        if not trainer.ckpt_path:
            self._write(trainer)

    def on_train_start(self, trainer: Trainer) -> None:
        # A run that has nothing left to train when it goes on does not come here, and changes no file.
        if trainer.ckpt_path:
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        folder = _folder_of(trainer)
        # Rank 0 alone, as all ranks of a run share its folder.
        if folder is None or not trainer.is_global_zero:
            return
        try:
            _write_beside(folder, self.config)
        except (OSError, ConfigError) as error:
            warn(f"the configuration of this run is not kept in {folder}: {error}")


def _folder_of(trainer: Trainer) -> Path | None:
    """Return where the run keeps its files: with its curves, else with its checkpoints; None if it has neither."""
    has_checkpoints = trainer.checkpoint_callbacks or trainer.last_checkpoint
    if trainer.fast_dev_run or not (trainer.loggers or has_checkpoints):
        return None
    folder = trainer.log_dir if trainer.loggers else folder_of(trainer)
    return None if folder is None or is_remote(folder) else Path(folder)


def _write_beside(folder: Path, config: Config) -> None:
    """Write ``config`` under the first name in ``folder`` that is free, unless a file of these names is equal to it.

    Raises:
        OSError: If it cannot be written.
        ConfigError: If it is read back as something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = config.to_yaml()
    for name in itertools.chain(["config"], (f"config-v{version}" for version in itertools.count(1))):
        path = folder / f"{name}.yaml"
        if not os.path.lexists(path):
            with replacement(path, like=Path(config.source.path)) as file:
                file.write(text.encode())
                file.flush()
                # As text, in which 1 is neither 1.0 nor true, and NaN is equal to itself.
                if repr(read(file.name).sections()) != repr(config.sections()):
                    raise ConfigError("a value in it is another one when it is read back.")
        elif not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            continue
        return
