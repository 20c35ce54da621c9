"""The digits classifier with the optimizers of today: ``python -m examples.digits.optimizers``."""

from __future__ import annotations

import schedulefree
import torch
from torch.optim import AdamW, Muon

import trainkit as tk
from examples.digits.data import DigitsData
from examples.digits.module import Digits


class MuonDigits(Digits):
    """Muon for the matrix of the hidden layer, AdamW for biases and the last layer: one update of one loss."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        matrices, rest = tk.split_parameters(self, rest=["net.2."])
        return tk.JointOptimizer(Muon(matrices, lr=0.02), AdamW(rest, lr=self.hparams.lr))


class ScheduleFreeDigits(Digits):
    """Trains at other weights than it is validated and saved with; the Trainer switches between them."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = schedulefree.AdamWScheduleFree(
            self.parameters(), lr=self.hparams.lr, warmup_steps=50
        )
        return optimizer


def main() -> None:
    """Train with each, and print the test accuracy of the best weights."""
    data = DigitsData(batch_size=32)
    for module_class in (Digits, MuonDigits, ScheduleFreeDigits):
        tk.seed_everything(7)
        trainer = tk.Trainer(
            max_epochs=15,
            default_root_dir="runs/digits-optimizers",
            callbacks=[tk.callbacks.ModelCheckpoint(monitor="val/loss")],
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
        )
        trainer.fit(module_class(hidden=256, lr=0.003), datamodule=data)
        (results,) = trainer.test(datamodule=data, ckpt_path="best", verbose=False)
        print(f"{module_class.__name__:<20} test accuracy {results['test/accuracy']:.3f}")


if __name__ == "__main__":
    main()
