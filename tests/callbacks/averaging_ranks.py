"""Averages a module with BatchNorm on ranks, and prints what each is left with: ``averaging_ranks.py STRATEGY``."""

from __future__ import annotations

import sys
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trainkit.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from trainkit.module.shards import whole
from trainkit.testing import TinyModule, quiet_trainer


def main() -> None:
    for callback in (EMAWeightAveraging(decay=0.5), StochasticWeightAveraging(0.1, swa_epoch_start=1)):
        torch.manual_seed(3)
        module = TinyModule()
        module.layer = nn.Sequential(nn.BatchNorm1d(4), module.layer)
        trainer = quiet_trainer(strategy=sys.argv[1], accelerator="cpu", max_epochs=3, callbacks=[callback])
        trainer.fit(module, DataLoader(TensorDataset(torch.randn(24, 4), torch.randn(24, 2)), 3, shuffle=True))
        left: list[Tensor] = [whole(each.detach()) for each in module.state_dict().values()]
        print("left", *(crc32(each.numpy().tobytes()) for each in left))


if __name__ == "__main__":
    main()
