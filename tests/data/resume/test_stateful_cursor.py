from __future__ import annotations

import pytest
import torch

from trainkit.data.resume.stateful_cursor import StatefulCursor, has_state
from trainkit.errors import CheckpointError, StateError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Counting:
    """A loader that knows where it stands, and returns the very dictionary that it goes on changing."""

    def __init__(self, length=5):
        self.length = length
        self.state = {"next": 0}

    def __iter__(self):
        while self.state["next"] < self.length:
            self.state["next"] += 1
            yield self.state["next"] - 1
        self.state["next"] = 0

    def __len__(self):
        return self.length

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = dict(state)


@pytest.mark.parametrize("given", [1, 2, 4])
def test_the_loader_finds_its_place_itself(given):
    cursor = StatefulCursor(Counting(), "loader")
    batches = iter(cursor)
    for _ in range(given):
        next(batches)
    state = cursor.state_dict()
    resumed = StatefulCursor(Counting(), "loader")
    resumed.load_state_dict({**state, "loader": dict(state["loader"])}, mid_epoch=True)
    assert list(resumed) == list(range(given, 5))


def test_a_state_stays_what_it_was_when_it_was_asked_for():
    cursor = StatefulCursor(Counting(), "loader")
    batches = iter(cursor)
    next(batches)
    state = cursor.state_dict()
    next(batches)
    assert state["loader"] == {"next": 1}
    assert cursor.state_dict()["loader"] == {"next": 2}


@pytest.mark.parametrize("found", [None, 1, 2])
def test_a_batch_that_is_under_way_comes_again(found):
    cursor = StatefulCursor(Counting(), "loader")
    batches = iter(cursor)
    if found is not None:  # a run that goes on is stopped again
        for _ in range(found):
            next(batches)
        state, cursor = cursor.state_dict(), StatefulCursor(Counting(), "loader")
        cursor.load_state_dict(state, mid_epoch=True)
        batches = iter(cursor)
    for _ in range(3 - (found or 0)):
        next(batches)
    resumed = StatefulCursor(Counting(), "loader")
    resumed.load_state_dict(cursor.state_dict(under_way=1), mid_epoch=True)
    assert list(resumed) == [2, 3, 4]


def test_the_state_comes_back_between_epochs_too():
    loader = Counting()
    cursor = StatefulCursor(loader, "loader")
    state = {**cursor.state_dict(), "loader": {"next": 3}}
    cursor.load_state_dict(state, mid_epoch=False)
    assert loader.state == {"next": 3}
    assert not cursor.restored


def test_the_place_of_another_kind_of_loader_is_refused():
    cursor = StatefulCursor(Counting(), "val_dataloader")
    with pytest.raises(CheckpointError, match=r"val_dataloader is a Counting[\s\S]*IndexCursor"):
        cursor.load_state_dict({**cursor.state_dict(), "kind": "IndexCursor"}, mid_epoch=True)


def test_both_methods_make_a_loader_one_with_a_state():
    class Half:
        def state_dict(self):
            return {}

    assert has_state(Counting())
    assert not has_state(Half())
    assert not has_state(TinyData(2))


class Lazy:
    """Begins anew in each pass unless a state was loaded; written as a generator, so that `iter` runs nothing of it."""

    def __init__(self):
        self.position, self.passes, self.is_loaded = 0, 0, False

    def __len__(self):
        return 3

    def __iter__(self):
        if not self.is_loaded:
            self.position, self.passes = 0, self.passes + 1
        self.is_loaded = False
        while self.position < 3:
            self.position += 1
            yield torch.full((2, 4), 0.01 * (10 * self.passes + self.position)), torch.zeros(2, 2)

    def state_dict(self):
        return {"position": self.position, "passes": self.passes}

    def load_state_dict(self, state):
        self.position, self.passes, self.is_loaded = state["position"], state["passes"], True


@pytest.mark.parametrize("second", range(2, 9))
@pytest.mark.parametrize("first", range(1, 8))
def test_a_lazy_loader_that_is_stopped_twice_gives_every_batch_once(tmp_path, first, second):
    class Killed(Exception):
        pass

    class Saves:
        stage = "persist"

        def on_train_batch_end(self, trainer):
            if trainer.progress.total_batches in stops:
                trainer.save_checkpoint(tmp_path / "file.ckpt")
                raise Killed

    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            seen.append(round(100 * batch[0][0, 0].item()))
            return self.loss(batch)

    seen, ckpt_path = [], None
    stops = [stop for stop in (first, second) if first < second]
    while True:
        try:
            quiet_trainer(max_epochs=3, callbacks=[Saves()]).fit(Module(), Lazy(), ckpt_path=ckpt_path)
            break
        except Killed:
            ckpt_path = tmp_path / "file.ckpt"
            stops.pop(0)
    assert seen == [11, 12, 13, 21, 22, 23, 31, 32, 33]


def test_a_state_that_cannot_be_copied_names_the_loader():
    loader = Counting()
    loader.state = {"batches": (number for number in range(3))}
    with pytest.raises(
        StateError, match=r"what Counting.state_dict\(\) returned cannot be copied.*TypeError.*generator"
    ):
        StatefulCursor(loader, "loader").state_dict()
