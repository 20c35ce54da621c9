from __future__ import annotations

import torch
from torch.utils.data import DataLoader, TensorDataset

from trainkit.callbacks.builtin.fit_figures import Figures, samples_of
from trainkit.data import TensorLoader


def test_samples_are_those_of_the_batches_that_were_trained_on():
    data = TensorDataset(torch.zeros(10, 1))
    for loader in (DataLoader(data, batch_size=4), TensorLoader(torch.zeros(10, 1), batch_size=4)):
        assert [samples_of(loader, batches) for batches in (0, 1, 2, 3)] == [0, 4, 8, 10]
    assert samples_of([torch.zeros(4)], 1) is None
    assert samples_of(DataLoader(data, batch_size=None), 1) is None


def test_speed_leaves_out_the_time_of_validations():
    figures = Figures(began_at=0.0, counted_until=0, first_step=0, batches=10, samples=None, validates_since=5.0)
    figures.end_validation(15.0)
    assert figures.text(20.0) == "0:20, 0:10 of it in validations; 1.00 batches/s"
    figures.samples = 40
    assert figures.text(20.0).endswith("; 4.00 samples/s")
