"""One rank trains, and the program of the others ends: ``absent_rank.py RANK FOLDER``."""

from __future__ import annotations

import sys

import trainkit as tk
from trainkit.testing import TinyData, TinyModule

present, folder = int(sys.argv[1]), sys.argv[2]
trainer = tk.Trainer(strategy="ddp", accelerator="cpu", max_epochs=1, default_root_dir=folder, logger=False)
if trainer.global_rank == present:
    trainer.fit(TinyModule(), TinyData())
