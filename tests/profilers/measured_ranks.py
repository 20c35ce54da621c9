"""Trains on two ranks, of which the second has slow data, and prints where the time went."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from torch import Tensor

from trainkit.testing import TinyData, TinyModule, quiet_trainer


class SlowData(TinyData):
    """Lets rank 1 wait for its batches."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in super().__iter__():
            time.sleep(0.02 if os.environ["RANK"] == "1" else 0.0)
            yield batch


if __name__ == "__main__":
    trainer = quiet_trainer(
        max_epochs=1, strategy="ddp", accelerator="cpu", profiler="simple", use_distributed_sampler=False
    )
    trainer.fit(TinyModule(), SlowData(60))
