"""`SavedConfig`, a callback that writes the resolved configuration into the folder of the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainkit.hooks.callback import Callback

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


class SavedConfig(Callback):
    """Write ``config.yaml`` into ``trainer.log_dir`` when a fit starts.

    Args:
        text: The resolved configuration, as YAML.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def on_fit_start(self, trainer: Trainer) -> None:
        # Rank 0 alone, as all ranks of a run share its folder.
        if trainer.log_dir is None or not trainer.is_global_zero:
            return
        folder = Path(trainer.log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(self.text, encoding="utf-8")
