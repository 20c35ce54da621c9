"""Prediction to files: batch by batch, and everything at once in the order of the data."""

from __future__ import annotations

import torch
from torch import nn

import trainkit.compat.lightning as pl
from tests.programs.digits import loader
from trainkit.compat.lightning.callbacks import BasePredictionWriter


class Predictor(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(64, 10)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        x, _ = batch
        return self.net(x).softmax(dim=-1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class FileWriter(BasePredictionWriter):
    def __init__(self, output_dir, write_interval):
        super().__init__(write_interval)
        self.output_dir = output_dir

    def write_on_batch_end(self, trainer, pl_module, prediction, batch_indices, batch, batch_idx, dataloader_idx):
        folder = self.output_dir / str(dataloader_idx)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save((batch_indices, prediction), folder / f"{batch_idx}.pt")

    def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices):
        torch.save(predictions, self.output_dir / "predictions.pt")
        torch.save(batch_indices, self.output_dir / "batch_indices.pt")


def main(root):
    pl.seed_everything(8)
    quiet = {"accelerator": "cpu", "default_root_dir": root, "enable_progress_bar": False, "logger": False}
    model = Predictor()
    pl.Trainer(max_epochs=2, enable_checkpointing=False, enable_model_summary=False, **quiet).fit(
        model, loader(shuffle=True)
    )
    writer = FileWriter(root, "batch_and_epoch")
    trainer = pl.Trainer(callbacks=[writer], **quiet)
    assert trainer.predict(model, loader(600, 725), return_predictions=False) is None

    indices, first = torch.load(root / "0" / "0.pt")
    assert list(indices) == list(range(50)) and first.shape == (50, 10)
    written = torch.cat(torch.load(root / "predictions.pt"))
    (batches,) = torch.load(root / "batch_indices.pt")
    assert [index for batch in batches for index in batch] == list(range(125))
    returned = torch.cat(pl.Trainer(**quiet).predict(model, dataloaders=loader(600, 725)))
    assert torch.equal(written, returned)
    labels = torch.cat([y for _, y in loader(600, 725)])
    return {"accuracy": (written.argmax(1) == labels).float().mean().item(), "sum": written.pow(2).sum().item()}
