from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from trainkit.checkpoint import migrate as migrate_file
from trainkit.checkpoint.migrate import migrate
from trainkit.checkpoint.state import FORMAT
from trainkit.errors import CheckpointError
from trainkit.seed import seed_everything
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.testing import TinyModule, assert_same_weights, quiet_trainer

DATA = Path(__file__).parent / "data"


class Noisy(TinyModule):
    """The module of the stored files."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = self.loss((torch.nn.functional.dropout(x, 0.5), y))
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)]


def fit(ckpt_path: Path | None = None) -> Any:
    """Run what the stored files were saved in: after 8 of 12 batches, within an accumulation group."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(22, 4, generator=generator)
    seed_everything(3 if ckpt_path is None else 7)
    trainer = quiet_trainer(max_epochs=2, accumulate_grad_batches=3)
    loader = DataLoader(TensorDataset(x, x[:, :2].abs()), 4, shuffle=True)
    trainer.fit(Noisy(seed=0 if ckpt_path is None else 1), loader, ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("path", sorted(DATA.glob("format-*.ckpt")), ids=lambda path: path.stem)
def test_a_run_continues_exactly_from_a_file_of_an_older_format(path: Path) -> None:
    resumed, whole = fit(path), fit()
    assert_same_weights(resumed.module, whole.module)
    assert resumed.callback_metrics == whole.callback_metrics


def test_there_is_a_file_of_every_older_format_and_a_way_from_each() -> None:
    formats = [read_checkpoint(path)["trainkit"]["format"] for path in sorted(DATA.glob("format-*.ckpt"))]
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
