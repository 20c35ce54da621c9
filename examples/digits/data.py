"""The 1797 handwritten digits that come with scikit-learn, in three splits."""

from __future__ import annotations

from typing import TypeAlias

import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split

import trainkit as tk

Images: TypeAlias = DataLoader[tuple[torch.Tensor, ...]]


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
        generator = torch.Generator().manual_seed(self.split_seed)
        splits = random_split(range(len(digits)), (0.7, 0.15, 0.15), generator)
        # What standardises the images must not know those that are held back.
        seen = pixels[splits[0].indices]
        images = TensorDataset(((pixels - seen.mean()) / seen.std()).float(), digits)
        self.train, self.val, self.test = (Subset(images, split.indices) for split in splits)

    def train_dataloader(self) -> Images:
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> Images:
        return DataLoader(self.val, self.batch_size)

    def test_dataloader(self) -> Images:
        return DataLoader(self.test, self.batch_size)
