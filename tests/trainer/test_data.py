from __future__ import annotations

import math
import multiprocessing
from itertools import chain

import pytest
import torch
from torch.utils.data import DataLoader

from trainkit import DataModule
from trainkit.data.wait_meter import WaitMeter
from trainkit.errors import DataError
from trainkit.progress import Progress
from trainkit.seed import rng_state, set_rng_state
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.data import LOADER_OF_STAGE, DataConnection, Rank
from trainkit.types import Stage


class NoValidation(TinyModule):
    validation_step = TinyModule.__mro__[1].validation_step


class Events(DataModule):
    """Writes down what is asked of it."""

    def __init__(self):
        super().__init__()
        self.events = []

    def prepare_data(self):
        self.events.append("prepare_data")

    def setup(self, stage):
        self.events.append(f"setup {stage}")

    def teardown(self, stage):
        self.events.append(f"teardown {stage}")

    def train_dataloader(self):
        self.events.append("train_dataloader")
        return TinyData(2)

    val_dataloader = train_dataloader

    def state_dict(self):
        return {"events": len(self.events)}

    def load_state_dict(self, state):
        self.events.append(f"loaded {state}")


def connect(stage=Stage.FIT, module=None, datamodule=None, rank=None, **arguments):
    names = {"train", "val", "test", "predict"} & {*arguments}
    given = {name: arguments.pop(name) for name in names}
    use = quiet_trainer(**arguments).arguments.data
    return DataConnection(module or TinyModule(), datamodule, given, use, rank or Rank(), stage)


def numbers(count=12, **options):
    return DataLoader([float(number) for number in range(count)], batch_size=2, **options)


def batches(loader):
    return [batch.tolist() for _, batch, _ in loader.batches()]


# What there is


@pytest.mark.parametrize(("stage", "name"), LOADER_OF_STAGE.items())
def test_each_stage_has_its_loader_and_no_other(stage, name):
    assert stage in Stage
    data = connect(stage, **{name: TinyData(3)})
    assert data.num_batches(name) == [3]
    assert data.loader(name) is not None
    for other in {"train", "val", "test", "predict"} - {name}:
        assert (data.num_batches(other), data.loader(other)) == ([], None)


def test_a_fit_without_data_is_refused_at_once():
    with pytest.raises(DataError, match="train_dataloader"):
        connect()


def test_a_fit_has_training_and_validation_loaders():
    data = connect(train=TinyData(4), val=TinyData(3), limit_train_batches=2, limit_val_batches=1)
    assert (data.num_batches("train"), data.num_batches("val")) == ([2], [1])
    assert data.fit_loaders.train.name == "train_dataloader"


def test_several_loaders_are_a_list():
    one, other = numbers(2), numbers(4)
    data = connect(Stage.VALIDATE, val=[one, other])
    assert data.loader("val") == [one, other]
    assert data.num_batches("val") == [1, 2]
    assert connect(Stage.VALIDATE, val=one).loader("val") is one


def test_a_length_that_nobody_knows_is_infinite():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(3))

    assert connect(train=DataLoader(Stream())).num_batches("train") == [math.inf]


@pytest.mark.filterwarnings("ignore:there is validation data, but NoValidation")
@pytest.mark.parametrize(
    ("module", "arguments"),
    [(TinyModule, {"limit_val_batches": 0}), (NoValidation, {}), (TinyModule, {"val": None})],
)
def test_nothing_is_validated_where_it_cannot_be_or_shall_not_be(module, arguments):
    data = connect(module=module(), **({"train": TinyData(2), "val": TinyData(2)} | arguments))
    assert data.fit_loaders.val == data.fit_loaders.sanity == []


@pytest.mark.parametrize(("steps", "sanity"), [(0, []), (2, [2, 1]), (-1, [3, 1]), (9, [3, 1])])
def test_the_sanity_check_has_the_first_batches_of_every_loader(steps, sanity):
    data = connect(train=TinyData(1), val=[numbers(6), numbers(2)], num_sanity_val_steps=steps)
    assert [loader.num_batches for loader in data.fit_loaders.sanity] == sanity
    assert [loader.num_batches for loader in data.fit_loaders.val] == [3, 1]


def test_overfitting_takes_the_same_batches_each_time_and_says_so_in_errors():
    data = connect(train=numbers(shuffle=True), val=numbers(), overfit_batches=2)
    assert batches(data.fit_loaders.train) == batches(data.fit_loaders.train) == [[0, 1], [2, 3]]
    assert data.num_batches("val") == [2]
    with pytest.raises(DataError, match="overfit_batches"):
        _ = connect(train=numbers(2), overfit_batches=0.1).fit_loaders
    with pytest.raises(DataError, match="limit_train_batches"):
        _ = connect(train=numbers(2), limit_train_batches=0.1).fit_loaders


# When it is made


def test_loaders_are_made_when_they_are_first_asked_for_and_kept():
    data = Events()
    connection = connect(datamodule=data)
    assert data.events == []
    loaders = connection.fit_loaders
    assert data.events == ["train_dataloader"] * 2
    assert connection.fit_loaders is loaders
    assert connection.evaluation_loaders("val") is connection.evaluation_loaders("val")


def test_a_data_module_is_prepared_set_up_and_torn_down():
    data = Events()
    connection = connect(Stage.FIT, datamodule=data)
    trainer = quiet_trainer()
    connection.prepare(trainer)
    assert data.events == ["prepare_data", "setup fit"]
    assert data.trainer is trainer
    connection.teardown()
    assert data.events[-1] == "teardown fit"


def test_one_process_of_a_machine_prepares_the_data():
    class Module(TinyModule):
        prepared = 0

        def prepare_data(self):
            self.prepared += 1

    data, module, trainer = Events(), Module(), quiet_trainer()
    connection = connect(module=module, datamodule=data)
    trainer.strategy.local_rank = 1
    connection.prepare(trainer)
    assert (data.events, module.prepared) == (["setup fit"], 0)
    trainer.strategy.local_rank = 0
    connection.prepare(trainer)
    assert (data.events[1:], module.prepared) == (["prepare_data", "setup fit"], 1)


@pytest.mark.parametrize(("stage", "name"), [(Stage.FIT, "train"), (Stage.FIT, "val"), (Stage.PREDICT, "predict")])
def test_workers_end_with_the_run(stage, name):
    loader = numbers(4, num_workers=1, persistent_workers=True)
    data = connect(stage, **({"train": TinyData(1)} if name == "val" else {}), **{name: loader})
    if stage is Stage.FIT:
        (used,) = [data.fit_loaders.train] if name == "train" else data.fit_loaders.val
    else:
        (used,) = data.evaluation_loaders(name)
    before = {*multiprocessing.active_children()}
    assert len(batches(used)) == 2
    assert {*multiprocessing.active_children()} - before, "workers outlive a pass"
    data.teardown()
    assert {*multiprocessing.active_children()} == before


def test_loaders_made_anew_are_those_of_the_epoch():
    sizes = iter([3, 5])

    class Module(TinyModule):
        def train_dataloader(self):
            return TinyData(next(sizes))

    data = connect(module=Module(), reload_dataloaders_every_n_epochs=1)
    data.fit_loaders.start_epoch(0)
    assert data.num_batches("train") == [3]
    data.fit_loaders.start_epoch(1)
    assert data.num_batches("train") == [5]


def test_the_meter_measures_the_training_loader():
    data = connect(train=TinyData(2), val=TinyData(1))
    data.meters.append(WaitMeter("train_dataloader", torch.device("cpu")))
    assert data.fit_loaders.train._meters is data.meters
    assert not data.fit_loaders.val[0]._meters


# Ranks


def test_ranks_share_the_samples_in_one_order():
    seen = []
    for index in range(2):
        data = connect(train=numbers(8, shuffle=True), rank=Rank(index, 2))
        data.shuffle_seed = 5
        seen.append([number for batch in batches(data.fit_loaders.train) for number in batch])
    assert sorted(seen[0] + seen[1]) == list(range(8))
    data = connect(train=numbers(8, shuffle=True), rank=Rank(0, 2))
    data.shuffle_seed = 6
    assert [number for batch in batches(data.fit_loaders.train) for number in batch] != seen[0]


def test_ranks_train_on_equally_many_samples_and_evaluate_each_one_once():
    def samples(loaders):
        return [len([*chain(*batches(loader))]) for loader in loaders]

    connections = [connect(train=numbers(7), val=numbers(7), rank=Rank(index, 2)) for index in range(2)]
    assert samples(data.fit_loaders.train for data in connections) == [4, 4]
    assert samples(data.fit_loaders.val[0] for data in connections) == [4, 3]


@pytest.mark.parametrize(("rank", "arguments"), [(Rank(0, 1), {}), (Rank(0, 2), {"use_distributed_sampler": False})])
def test_a_loader_is_taken_as_it_is_where_nothing_is_shared(rank, arguments):
    loader = numbers()
    assert connect(Stage.VALIDATE, val=loader, rank=rank, **arguments).loader("val") is loader


# A run that is resumed


def test_the_data_stand_where_they_stood():
    torch.manual_seed(1)
    data = connect(train=numbers(shuffle=True))
    first = data.fit_loaders.train.batches()
    taken = [next(first)[1].tolist() for _ in range(2)]
    state, states_of_rng = data.state_dict(Progress(batch=2)), rng_state()
    rest = [batch.tolist() for _, batch, _ in first]
    torch.manual_seed(2)
    resumed = connect(train=numbers(shuffle=True))
    resumed.load_datamodule_state(state)
    set_rng_state(states_of_rng)
    resumed.load_state_dict(state, mid_epoch=True, validation_loader=None)
    assert [batch.tolist() for _, batch, _ in resumed.fit_loaders.train.batches(start=2)] == rest
    assert sorted(chain(*taken, *rest)) == list(range(12))


def test_loaders_that_are_drawn_at_random_are_drawn_again():
    class Module(TinyModule):
        def train_dataloader(self):
            return DataLoader(torch.randperm(100)[:4].tolist(), batch_size=2)

    torch.manual_seed(1)
    data = connect(module=Module())
    expected = batches(data.fit_loaders.train)
    state = data.state_dict(Progress())
    torch.manual_seed(2)
    resumed = connect(module=Module())
    resumed.load_datamodule_state(state)
    before = torch.get_rng_state()
    loaders = resumed.fit_loaders
    assert torch.equal(torch.get_rng_state(), before), "what is drawn again is no news to the run"
    assert batches(loaders.train) == expected


def test_a_data_module_keeps_its_state():
    data = Events()
    connection = connect(datamodule=data)
    state = connection.state_dict(Progress())
    assert state["datamodule"] == {"events": 0}
    assert state["train"] is None, "loaders are not made to be saved"
    connection.load_datamodule_state(state)
    assert data.events == ["loaded {'events': 0}"]
    connection.load_datamodule_state({"datamodule": {}})
    assert len(data.events) == 1, "an empty state is none"


def test_validation_loaders_of_another_number_begin_anew():
    data = connect(train=TinyData(2), val=[numbers(4), numbers(4)])
    _ = data.fit_loaders
    state = data.state_dict(Progress())
    assert len(state["val"]) == 2
    other = connect(train=TinyData(2), val=numbers(4))
    other.load_state_dict(state, mid_epoch=False, validation_loader=None)
    assert batches(other.fit_loaders.val[0]) == [[0, 1], [2, 3]]


@pytest.mark.parametrize(("mid_epoch", "sizes"), [(False, [3, 5]), (True, [3, 3])])
def test_loaders_that_are_due_in_the_first_epoch_after_resuming_are_made_anew(mid_epoch, sizes):
    given = iter([3, 5])

    class Module(TinyModule):
        def train_dataloader(self):
            return numbers(2 * next(given))

    state = connect(train=numbers()).state_dict(Progress())
    data = connect(module=Module(), reload_dataloaders_every_n_epochs=1)
    if not mid_epoch:
        data.fit_loaders.resume_between_epochs()
    data.load_state_dict(state, mid_epoch=mid_epoch, validation_loader=None)
    found = data.num_batches("train")
    data.fit_loaders.start_epoch(1)
    assert [*found, *data.num_batches("train")] == sizes


def test_a_validation_stands_in_the_loader_in_which_it_stood():
    def connected():
        return connect(train=TinyData(1), val=[numbers(), numbers(shuffle=True)])

    torch.manual_seed(1)
    data = connected()
    under_way = data.fit_loaders.val[1].batches()
    next(under_way)
    state = data.state_dict(Progress(validation_loader=1, validation_batch=1))
    rest = [batch.tolist() for _, batch, _ in under_way]
    torch.manual_seed(2)
    resumed = connected()
    resumed.load_state_dict(state, mid_epoch=True, validation_loader=1)
    assert [batch.tolist() for _, batch, _ in resumed.fit_loaders.val[1].batches(start=1)] == rest
