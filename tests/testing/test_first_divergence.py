from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.testing.first_divergence import first_divergence
from trainkit.testing.trace import Enough, RunTrace, read_stops


class Sound(TinyModule):
    """Continues exactly."""

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.1)


class Restless(Sound):
    """Draws a random number at the first batch that it sees."""

    seen = False

    def on_train_batch_start(self) -> None:
        if not self.seen:
            torch.rand(1)
        self.seen = True


class Initialising(Sound):
    """Changes its weights when a fit starts."""

    def on_fit_start(self) -> None:
        with torch.no_grad():
            self.layer.bias.mul_(2.0)


class Counting(Sound):
    """Keeps state that no checkpoint holds."""

    steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.steps += 1
        self.log("steps", float(self.steps))
        return super().training_step(batch, batch_idx)


class Forgetting(Sound):
    """Loses the state of its optimizer."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["optimizer_states"][0]["state"] = {}


class Growing(Dataset):
    """Samples that change whenever one is given out."""

    def __init__(self) -> None:
        self.given = 0

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        self.given += 1
        return torch.full((4,), index + self.given / 10), torch.zeros(2)


def find(folder: Path, module: type[TinyModule], data: Any = TinyData) -> Any:
    """Trace a run of six batches, continue it in the middle of its first epoch, and compare."""

    def run(name: str, ckpt_path: Path | None = None) -> Path:
        torch.manual_seed(0)
        place = folder / name
        place.mkdir()
        trace = RunTrace(place, 6, saves=ckpt_path is None)
        trainer = quiet_trainer(max_epochs=2, log_every_n_steps=1, callbacks=[trace])
        with pytest.raises(Enough):
            trainer.fit(module(), data(4), TinyData(2), ckpt_path=ckpt_path)
        return place

    whole = run("whole")
    stop = next(stop for stop in read_stops(whole) if stop.kind == "middle")
    return first_divergence(whole, run("resumed", whole / stop.checkpoint), stop.events)


def test_a_sound_run_parts_nowhere(tmp_path: Path) -> None:
    assert find(tmp_path, Sound) is None


@pytest.mark.parametrize(
    ("module", "what", "cause"),
    [
        (Restless, "random numbers of torch", "drew random numbers in one run only"),
        (Initialising, "parameter layer.bias", "changed while the run was made ready"),
        (Forgetting, "optimizer 0: step of layer.weight was to come", "is not restored"),
        (Counting, "logged value steps", "what is logged depends on something"),
    ],
)
def test_what_differs_first_is_named_with_its_place(
    tmp_path: Path, module: type[TinyModule], what: str, cause: str
) -> None:
    found = find(tmp_path, module)
    assert found.when == "epoch 0, batch 2"
    assert found.what.startswith(what)
    assert cause in found.cause


def test_data_that_keeps_state_is_named(tmp_path: Path) -> None:
    found = find(tmp_path, Sound, lambda batches: DataLoader(Growing(), batch_size=3))
    assert (found.when, found.what) == ("epoch 0, batch 2", "batch")
    assert "the dataset, its transforms or the sampler keep state" in found.cause


def test_runs_that_differ_from_the_start_are_not_blamed_on_resuming(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        (tmp_path / name).mkdir()
        trainer = quiet_trainer(callbacks=[RunTrace(tmp_path / name, 9, saves=False)])
        trainer.fit(Sound(seed=seed), TinyData(2))
    found = first_divergence(tmp_path / "one", tmp_path / "two", from_the_start=True)
    assert (found.when, found.what) == ("epoch 0, batch 0", "parameter layer.weight")
    assert "nothing to do with resuming" in found.cause


def test_what_only_the_end_shows_is_found_there(tmp_path: Path) -> None:
    class Notes:
        def __init__(self, note: int) -> None:
            self.note = note

        def state_dict(self) -> dict[str, int]:
            return {"note": self.note}

        def load_state_dict(self, state: dict[str, int]) -> None:
            pass

    for note in (1, 2):
        (tmp_path / str(note)).mkdir()
        trainer = quiet_trainer(callbacks=[Notes(note), RunTrace(tmp_path / str(note), 9, saves=False)])
        torch.manual_seed(0)
        trainer.fit(Sound(), TinyData(2))
    found = first_divergence(tmp_path / "1", tmp_path / "2")
    assert (found.when, found.what) == ("the end", "callbacks.Notes.note: 1 and 2")
