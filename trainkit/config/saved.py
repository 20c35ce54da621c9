"""`SavedConfig`, a callback that writes the resolved configuration into the folder of the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainkit.hooks.callback import Callback

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class SavedConfig(Callback):
    """Write ``config.yaml`` into ``trainer.log_dir`` when a fit starts; one that goes on, when it begins to train.

    Args:
        text: The resolved configuration, as YAML.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def on_fit_start(self, trainer: Trainer) -> None:
        if not trainer.ckpt_path:
            self._write(trainer)

    def on_train_start(self, trainer: Trainer) -> None:
        # A run that has nothing left to train when it goes on does not come here, and changes no file.
        if trainer.ckpt_path:
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        # Rank 0 alone, as all ranks of a run share its folder.
        if trainer.log_dir is None or not trainer.is_global_zero:
            return
        folder = Path(trainer.log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(self.text, encoding="utf-8")
