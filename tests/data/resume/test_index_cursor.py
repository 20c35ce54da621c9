from __future__ import annotations

import multiprocessing
import warnings

import numpy as np
import pytest
from torch.utils.data import DataLoader, Sampler

from tests.data.resume.runs import DATA, Dropping, Saves, shuffled, train
from trainkit.errors import CheckpointError
from trainkit.testing import quiet_trainer


class Lazy(Sampler):
    """Draws from a generator that others use too, one index at a time."""

    def __iter__(self):
        return (int(np.random.randint(22)) for _ in range(22))

    def __len__(self):
        return 22


@pytest.mark.parametrize("num_workers", [0, 1])
def test_sampler_that_draws_while_the_epoch_runs_is_told_of_at_once(num_workers):
    with pytest.warns(UserWarning, match=r"train_dataloader: Lazy draws random numbers batch by batch") as caught:
        train(DataLoader(DATA, batch_size=4, sampler=Lazy(), num_workers=num_workers), seed=0)
    assert len([w for w in caught if w.category is UserWarning]) == 1  # Python itself may tell of the fork of a worker


@pytest.mark.parametrize(("before", "after", "is_told"), [(0, 1, True), (1, 0, True), (1, 2, False)])
def test_from_no_workers_to_some_or_back_is_told_in_the_middle_of_an_epoch(tmp_path, before, after, is_told):
    saves = Saves(tmp_path)
    train(shuffled(num_workers=before), seed=0, callbacks=saves)
    for file, in_the_middle in ((saves.files[1], True), (tmp_path / "0-end.ckpt", False)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(shuffled(num_workers=after), seed=1, ckpt_path=file)
        told = [
            f"has num_workers={after}, and the run that is to be continued had {before}" in str(w.message)
            for w in caught
            if w.category is UserWarning  # Python itself may tell of the fork
        ]
        assert told == [True] * (is_told and in_the_middle)


@pytest.mark.filterwarnings("ignore:.*Lazy draws random numbers batch by batch")
def test_indices_that_workers_were_given_ahead_come_again_or_are_refused(tmp_path):
    class Draws(Saves):
        """Draws from the generator of the sampler while indices are drawn ahead."""

        def on_train_batch_start(self, batch_idx):
            if batch_idx == 1:
                np.random.rand()

        def on_train_epoch_end(self):
            pass

    def lazy():
        return DataLoader(DATA, batch_size=4, sampler=Lazy(), num_workers=1)

    saves = Draws(tmp_path)
    whole = train(lazy(), seed=0, callbacks=saves)
    (tmp_path / "again").mkdir()
    resumed = train(lazy(), seed=1, callbacks=Draws(tmp_path / "again"), ckpt_path=tmp_path / "0-1.ckpt")
    assert resumed.seen == whole.seen[1:]
    # The fifth batch of indices was drawn after something else had drawn, of which a checkpoint knows nothing.
    with pytest.raises(CheckpointError, match="draws other samples"):
        train(lazy(), seed=1, ckpt_path=tmp_path / "0-3.ckpt")


def test_no_worker_outlives_a_fit():
    before = set(multiprocessing.active_children())
    trainer = quiet_trainer(num_sanity_val_steps=1)
    loader = shuffled(num_workers=1, persistent_workers=True)
    trainer.fit(Dropping(), loader, loader)
    assert set(multiprocessing.active_children()) == before
