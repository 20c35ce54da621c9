"""The 1797 handwritten digits that come with scikit-learn, in three splits."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

import trainkit as tk
from trainkit.data import TensorLoader


class DigitsData(tk.DataModule):
    """Images as standardised rows of 64 pixels, and the digit each one shows.

    70 % are there to train, 15 % to validate, 15 % to test.

    Args:
        batch_size: Images in a batch.
        split_seed: Decides which image is in which split. Results are comparable only between runs that share it.
    """

    def __init__(self, batch_size: int = 64, split_seed: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.split_seed = split_seed

    def setup(self, stage: str) -> None:
        pixels, digits = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
        order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(self.split_seed))
        train, val, test = order.tensor_split((int(0.7 * len(digits)), int(0.85 * len(digits))))
        # What standardises the images must not know those that are held back.
        images = ((pixels - pixels[train].mean()) / pixels[train].std()).float()
        self.train, self.val, self.test = ((images[split], digits[split]) for split in (train, val, test))

    def train_dataloader(self) -> TensorLoader:
        return TensorLoader(*self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> TensorLoader:
        return TensorLoader(*self.val, batch_size=self.batch_size)

    def test_dataloader(self) -> TensorLoader:
        return TensorLoader(*self.test, batch_size=self.batch_size)
