"""Handwritten digits, 8 x 8 pixels: what most of the programs are trained on."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


def digits(first: int = 0, last: int = 600) -> TensorDataset:
    """Return images, shape (samples, 64), values from 0 to 1, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return TensorDataset(
        torch.tensor(images[first:last] / 16, dtype=torch.float32), torch.tensor(labels[first:last], dtype=torch.long)
    )


def loader(first: int = 0, last: int = 600, *, batch_size: int = 50, shuffle: bool = False) -> DataLoader:
    return DataLoader(digits(first, last), batch_size=batch_size, shuffle=shuffle)
