"""Fits whose ranks see different scores: ``torchrun on_two_ranks.py FOLDER`` writes ``rank_N.json`` there on rank N."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from trainkit.callbacks import EarlyStopping, ModelCheckpoint
from trainkit.errors import TrainkitError
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class Scores(TinyModule):
    """Logs, on each rank for itself, one of the scores that are given for it."""

    def __init__(self, *scores_of_rank: list[float]) -> None:
        super().__init__()
        self.scores = iter(scores_of_rank[int(os.environ["RANK"])])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.log("val/score", next(self.scores), sync_dist=False)

    def on_train_epoch_end(self) -> None:
        self.log("rank", float(os.environ["RANK"]))


def fit(module: Scores, callback: Any, **arguments: Any) -> Any:
    trainer = quiet_trainer(**({"max_epochs": 3, "strategy": "ddp"} | arguments), callbacks=[callback])
    trainer.fit(module, TinyData(2), TinyData(1))
    return trainer


def save(folder: Path) -> dict[str, Any]:
    """Rank 0 likes the second epoch best, rank 1 the last one."""
    checkpoint = ModelCheckpoint(folder, monitor="val/score", save_last="link")
    fit(Scores([3.0, 1.0, 2.0], [3.0, 2.0, 1.0]), checkpoint, enable_checkpointing=True)
    return checkpoint.state_dict()


def save_where_there_is_a_file(folder: Path) -> str:
    """Only rank 0 looks whether it may write."""
    try:
        fit(Scores([1.0], [1.0]), ModelCheckpoint(folder / "rank_0.json"), enable_checkpointing=True, max_epochs=1)
    except TrainkitError as error:
        return type(error).__name__
    return "no error"


def stop() -> tuple[int, str]:
    """Only rank 1 sees a score that rises."""
    stopping = EarlyStopping("val/score", patience=1)
    trainer = fit(Scores([3.0, 2.0, 1.0], [1.0, 2.0, 3.0]), stopping)
    return trainer.current_epoch, stopping.stopping_reason


def rows() -> list[float]:
    """What is logged at the end of an epoch differs between the ranks."""
    recorder = Recorder(["on_log"])
    fit(Scores([1.0], [1.0]), recorder, max_epochs=1)
    return [call["metrics"]["rank"] for call in recorder.arguments("on_log") if "rank" in call["metrics"]]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    report = folder / f"rank_{os.environ['RANK']}.json"
    report.write_text("{}")
    seen = {
        "saved": save(folder / "checkpoints"),
        "refused": save_where_there_is_a_file(folder),
        "stopped": stop(),
        "rows": rows(),
    }
    report.write_text(json.dumps(seen))
