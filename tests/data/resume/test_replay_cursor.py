from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from tests.data.resume.runs import DATA, Saves, train


class Buffered(IterableDataset):
    """Shuffles in a buffer, and knows its length."""

    def __init__(self, *, own):
        self.own = own

    def __len__(self):
        return 22

    def __iter__(self):
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ()))) if self.own else None
        buffer = list(DATA)[:5]
        for sample in list(DATA)[5:]:
            yield buffer.pop(int(torch.randint(5, (), generator=generator)))
            buffer.append(sample)
        yield from buffer


@pytest.mark.filterwarnings("ignore:.*cannot be told where to begin")
def test_stream_that_draws_in_turn_with_training_is_told_of_when_it_goes_on_and_one_with_its_own_is_exact(
    tmp_path,
):
    saves = Saves(tmp_path)
    whole = train(DataLoader(Buffered(own=True), 4), seed=0, callbacks=saves)
    resumed = train(DataLoader(Buffered(own=True), 4), seed=1, ckpt_path=saves.files[2])
    assert resumed.seen == whole.seen[3:]
    (tmp_path / "in turn").mkdir()
    saves = Saves(tmp_path / "in turn")
    train(DataLoader(Buffered(own=False), 4), seed=0, callbacks=saves)
    with pytest.warns(UserWarning, match="train_dataloader draws random numbers .* in turn with training"):
        train(DataLoader(Buffered(own=False), 4), seed=1, ckpt_path=saves.files[2])
