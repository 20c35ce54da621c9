"""An autoencoder: the encoder and decoder of the first page of the documentation, with pictures in TensorBoard."""

from __future__ import annotations

import torch
from torch import nn

import trainkit.compat.lightning as pl
from tests.programs.digits import loader
from trainkit.compat.lightning.loggers import TensorBoardLogger


class LitAutoEncoder(pl.LightningModule):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.save_hyperparameters(ignore=["encoder", "decoder"])
        self.encoder = encoder
        self.decoder = decoder
        self.example_input_array = torch.zeros(2, 64)
        self.validation_losses = []

    def forward(self, x):
        return self.decoder(self.encoder(x))

    def training_step(self, batch, batch_idx):
        x, _ = batch
        x = x.view(x.size(0), -1)
        loss = nn.functional.mse_loss(self(x), x)
        self.log("train_loss", loss)
        return {"loss": loss, "log": {"ignored": 1}}

    def validation_step(self, batch, batch_idx):
        x, _ = batch
        loss = nn.functional.mse_loss(self(x), x)
        self.validation_losses.append(loss)
        return loss

    def on_validation_epoch_end(self):
        mean = torch.stack(self.validation_losses).mean()
        self.validation_losses.clear()
        self.log("val_loss", mean, prog_bar=True)
        if not self.trainer.sanity_checking:
            tensorboard = self.logger.experiment
            pictures = self(torch.ones(4, 64, device=self.device)).view(4, 1, 8, 8)
            tensorboard.add_images("reconstructions", pictures, self.global_step)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(root):
    pl.seed_everything(3)
    encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))
    decoder = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 64))
    autoencoder = LitAutoEncoder(encoder, decoder)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        limit_train_batches=10,
        logger=TensorBoardLogger(root, name="autoencoder"),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model=autoencoder, train_dataloaders=loader(shuffle=True), val_dataloaders=loader(600, 700))

    best = trainer.checkpoint_callback.best_model_path
    again = LitAutoEncoder.load_from_checkpoint(best, encoder=encoder, decoder=decoder)
    again.eval()
    with torch.no_grad():
        embeddings = again.encoder(torch.rand(4, 64))
    return {
        "val_loss": trainer.callback_metrics["val_loss"].item(),
        "train_loss": trainer.logged_metrics["train_loss"].item() if "train_loss" in trainer.logged_metrics else 0.0,
        "embedding": embeddings.sum().item(),
        "steps": trainer.global_step,
    }
