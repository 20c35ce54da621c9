"""Train and test the digits classifier: what config.yaml says, in plain Python."""

from __future__ import annotations

import trainkit as tk
from examples.digits.data import DigitsData
from examples.digits.module import Digits


def main() -> None:
    """Train until the validation loss has not improved for five epochs, then test the best weights."""
    tk.seed_everything(7)
    trainer = tk.Trainer(
        max_epochs=30,
        default_root_dir="runs/digits",
        callbacks=[
            tk.callbacks.ModelCheckpoint(monitor="val/loss"),
            tk.callbacks.EarlyStopping("val/loss", patience=5),
        ],
    )
    data = DigitsData(batch_size=32)
    trainer.fit(Digits(hidden=256, lr=0.003), datamodule=data)
    trainer.test(datamodule=data, ckpt_path="best")


if __name__ == "__main__":
    main()
