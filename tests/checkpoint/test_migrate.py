from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from trainkit.callbacks import Callback
from trainkit.checkpoint import migrate as migrate_file
from trainkit.checkpoint.migrate import migrate
from trainkit.checkpoint.state import FORMAT
from trainkit.errors import CheckpointError
from trainkit.seed import rng_state, seed_everything
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.testing import TinyModule, assert_same_state, assert_same_weights, quiet_trainer

DATA = Path(__file__).parent / "data"
OLD_FILES = sorted(DATA.glob("format-*.ckpt"))


class Noisy(TinyModule):
    """The module of the stored files."""

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        x, y = batch[:2]
        loss = self.loss((torch.nn.functional.dropout(x, 0.5), y))
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)]


class Seen(Callback):
    """Keeps which samples came, in their order, and how far the random numbers had been drawn after each batch."""

    def __init__(self) -> None:
        self.samples: list[list[int]] = []
        self.rng: list[Any] = []

    def on_train_batch_end(self, batch: tuple[Tensor, ...]) -> None:
        self.samples.append(batch[2].tolist())
        self.rng.append(rng_state())


def fit(ckpt_path: Path | None = None) -> tuple[Any, Seen]:
    """Run what the stored files were saved in: after 8 of 12 batches, within an accumulation group."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(22, 4, generator=generator)
    seed_everything(3 if ckpt_path is None else 7)
    seen = Seen()
    trainer = quiet_trainer(max_epochs=2, accumulate_grad_batches=3, callbacks=[seen])
    loader = DataLoader(TensorDataset(x, x[:, :2].abs(), torch.arange(22)), 4, shuffle=True)
    trainer.fit(Noisy(seed=0 if ckpt_path is None else 1), loader, ckpt_path=ckpt_path)
    return trainer, seen


@pytest.mark.parametrize("path", OLD_FILES, ids=lambda path: path.stem)
def test_a_run_continues_from_a_file_of_an_older_format_as_if_it_had_never_stopped(path: Path) -> None:
    (resumed, rest), (whole, all_of_it) = fit(path), fit()
    # What was drawn is the same on every machine.
    assert len(rest.samples) == 4
    assert rest.samples == all_of_it.samples[8:]
    assert_same_state(rest.rng, all_of_it.rng[8:])
    # What was computed is not: the file is of another machine, whose kernels may add up in another order.
    assert_same_weights(resumed.module, whole.module, atol=1e-6)
    optimizers = resumed.optimizers[0].state_dict(), whole.optimizers[0].state_dict()
    assert_same_state(*optimizers, atol=1e-6)
    assert resumed.callback_metrics == {
        name: pytest.approx(value.item(), abs=1e-6) for name, value in whole.callback_metrics.items()
    }
    # When it was validated last is not in such a file: as far as it was saved, nothing is due.
    unknown = ("elapsed_s", "validated_at_step", "validated_at_batches", "validated_at_samples", "validated_at_epochs")
    found, expected = (
        {name: count for name, count in each.progress.state_dict().items() if name not in unknown}
        for each in (resumed, whole)
    )
    assert found == expected


@pytest.mark.parametrize("path", OLD_FILES, ids=lambda path: path.stem)
def test_a_run_continues_from_an_older_format_exactly_as_from_the_present_one(path: Path, tmp_path: Path) -> None:
    write_checkpoint(migrate(read_checkpoint(path), path), tmp_path / "new.ckpt")
    (old, rest), (new, rest_of_new) = fit(path), fit(tmp_path / "new.ckpt")
    assert_same_weights(old.module, new.module)
    assert old.callback_metrics == new.callback_metrics
    assert rest.samples == rest_of_new.samples


def test_there_is_a_file_of_every_older_format_and_a_way_from_each() -> None:
    formats = [read_checkpoint(path)["trainkit"]["format"] for path in OLD_FILES]
    assert formats == list(range(1, FORMAT))
    assert len(migrate_file._STEPS) == FORMAT - 1


def test_the_file_itself_stays_as_it_is(tmp_path: Path) -> None:
    path = DATA / "format-1.ckpt"
    before = hashlib.sha256(path.read_bytes()).digest()
    checkpoint = read_checkpoint(path)
    keys = set(checkpoint["trainkit"])
    assert migrate(checkpoint, path)["trainkit"]["format"] == FORMAT
    assert set(checkpoint["trainkit"]) == keys
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_weights_of_an_older_format_can_be_used(tmp_path: Path) -> None:
    old = read_checkpoint(DATA / "format-1.ckpt")
    weights = {key: old[key] for key in ("epoch", "global_step", "state_dict")}
    weights["trainkit"] = {key: old["trainkit"][key] for key in ("format", "version", "module")}
    write_checkpoint(weights, tmp_path / "weights.ckpt")
    module = Noisy(seed=9)
    trainer = quiet_trainer()
    trainer.predict(module, [(torch.zeros(1, 4), torch.zeros(1, 2))], ckpt_path=tmp_path / "weights.ckpt")
    assert torch.equal(module.layer.weight, old["state_dict"]["layer.weight"])


def test_a_file_of_a_newer_format_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "new.ckpt"
    write_checkpoint({"state_dict": {}, "trainkit": {"format": FORMAT + 1, "version": "9.9"}}, path)
    with pytest.raises(CheckpointError, match=rf"new.ckpt has format {FORMAT + 1}, written by trainkit 9.9.*Update"):
        quiet_trainer().fit(TinyModule(), [(torch.zeros(1, 4), torch.zeros(1, 2))], ckpt_path=path)


def test_files_of_other_programs_are_left_as_they_are() -> None:
    for foreign in ({"state_dict": {}}, {"trainkit": "a layer of that name"}):
        assert migrate(foreign, "foreign.ckpt") is foreign
