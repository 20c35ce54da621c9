"""The smallest module and data: 64 random rows of 32 numbers, and one linear layer that learns to give ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from trainkit.compat.lightning.core import LightningDataModule, LightningModule

ROWS, COLUMNS = 64, 32


class RandomDataset(Dataset[Tensor]):
    """Random rows.

    Args:
        size: Numbers in a row.
        length: Rows.
    """

    def __init__(self, size: int, length: int) -> None:
        self.data = torch.randn(length, size)

    def __getitem__(self, index: int) -> Tensor:
        return self.data[index]

    def __len__(self) -> int:
        return len(self.data)


class RandomDictDataset(RandomDataset):
    """Rows as a dict: ``"a"`` is the row, ``"b"`` another one."""

    def __getitem__(self, index: int) -> Any:
        return {"a": self.data[index], "b": self.data[index] + 1}


class RandomIterableDataset(IterableDataset[Tensor]):
    """Random rows without a known length.

    Args:
        size: Numbers in a row.
        count: Rows.
    """

    def __init__(self, size: int, count: int) -> None:
        self.size, self.count = size, count

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(self.count):
            yield torch.randn(self.size)


def _loader() -> DataLoader[Tensor]:
    return DataLoader(RandomDataset(COLUMNS, ROWS))


class BoringModel(LightningModule):
    """A linear layer that learns to give ones, with its own data, a schedule and every step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(COLUMNS, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers for each row."""
        output: Tensor = self.layer(x)
        return output

    def loss(self, output: Tensor) -> Tensor:
        """Return how far ``output`` is from ones."""
        return nn.functional.mse_loss(output, torch.ones_like(output))

    def step(self, batch: Any) -> Tensor:
        """Return the loss of a batch."""
        return self.loss(self(batch))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.step(batch)}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return {"x": self.step(batch)}

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        return {"y": self.step(batch)}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]

    def train_dataloader(self) -> Any:
        """Return the training data."""
        return _loader()

    def val_dataloader(self) -> Any:
        """Return the validation data."""
        return _loader()

    def test_dataloader(self) -> Any:
        """Return the test data."""
        return _loader()

    def predict_dataloader(self) -> Any:
        """Return the data to predict."""
        return _loader()


class ManualOptimBoringModel(BoringModel):
    """The same, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        loss = self.step(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class BoringDataModule(LightningDataModule):
    """The data of a `BoringModel`."""

    def train_dataloader(self) -> Any:
        return _loader()

    def val_dataloader(self) -> Any:
        return _loader()

    def test_dataloader(self) -> Any:
        return _loader()

    def predict_dataloader(self) -> Any:
        return _loader()
