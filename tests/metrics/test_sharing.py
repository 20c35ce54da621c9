"""One torchmetrics object that collects for two loaders, or for training and validation, has the value of each."""

from __future__ import annotations

import pytest
import torch
import torchmetrics
from torch.utils.data import DataLoader
from torchmetrics.classification import BinaryPrecision, BinaryRecall
from torchmetrics.regression import PearsonCorrCoef

from trainkit.errors import MetricError
from trainkit.metrics.collector import MetricCollector
from trainkit.testing import TinyModule, quiet_trainer
from trainkit.types import Phase


class WeightedMean(torchmetrics.Metric):
    """A mean of values, of which torch declares in what way the states of two parts become one."""

    def __init__(self, reduction="mean", **options):
        super().__init__(**options)
        self.add_state("total", torch.zeros(()), dist_reduce_fx=reduction)

    def update(self, value):
        self.total = (self.total * (self._update_count - 1) + value.mean()) / self._update_count

    def compute(self):
        return self.total


MAKE = {
    "mean": torchmetrics.MeanMetric,
    "cat": lambda: torchmetrics.MetricCollection([torchmetrics.CatMetric()]),
    "of its own": WeightedMean,
    "no sum": lambda: WeightedMean(None),
}
MEANS = ["mean", "of its own"]
TRAIN, FIRST, SECOND = [100.0, 200.0, 300.0, 400.0], [1.0], [10.0, 12.0]


class Shares(TinyModule):
    """Gives one object all that it sees; logs it in training and for each loader, and what it has after validation."""

    def __init__(self, metric, trains=True, at_end=True):
        super().__init__()
        self.one, self.trains, self.at_end = metric, trains, at_end
        self.after = []

    def training_step(self, batch, batch_idx):
        if self.trains:
            self.one.update(batch)
            self.log("train", self.one, on_step=False, on_epoch=True)
        return self.layer.weight.sum()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.one.update(batch)
        self.log("val", self.one)

    test_step = validation_step

    def on_validation_epoch_end(self):
        if self.at_end:
            self.after.append(self.one.compute().item())


def loader(values):
    return DataLoader(torch.tensor(values), batch_size=1)


def fit(module, val, **arguments):
    trainer = quiet_trainer(**({"val_check_interval": 3, "max_epochs": 2} | arguments))
    trainer.fit(module, loader(TRAIN), val)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("sanity", [0, 1])
@pytest.mark.parametrize("kind", MEANS)
def test_training_and_validation_and_each_loader_have_their_own_value(kind, sanity):
    module = Shares(MAKE[kind]())
    metrics = fit(module, [loader(FIRST), loader(SECOND)], num_sanity_val_steps=sanity)
    assert metrics == {"train": 250.0, "val/dataloader_idx_0": 1.0, "val/dataloader_idx_1": 11.0}
    # Where a hook asks the object itself, it has what all loaders gave it.
    assert module.after[-1] == pytest.approx(23 / 3)
    assert not module.one.update_called


@pytest.mark.parametrize("evaluate", ["validate", "test"])
@pytest.mark.parametrize("kind", MEANS)
def test_an_evaluation_alone(kind, evaluate):
    results = getattr(quiet_trainer(), evaluate)(Shares(MAKE[kind]()), [loader(FIRST), loader(SECOND), loader([7.0])])
    assert [list(result.values()) for result in results] == [[1.0], [11.0], [7.0]]


def test_states_that_have_no_sum_are_right_for_each_and_refused_for_all():
    module = Shares(MAKE["no sum"](), at_end=False)
    metrics = fit(module, [loader(FIRST), loader(SECOND)])
    assert metrics == {"train": 250.0, "val/dataloader_idx_0": 1.0, "val/dataloader_idx_1": 11.0}
    module.on_validation_epoch_end = lambda: module.log("all", module.one)
    with pytest.raises(MetricError, match=r"(?s)'all'.*several dataloaders that it cannot merge.*self\.one"):
        quiet_trainer().validate(module, [loader(FIRST), loader(SECOND)])


def test_one_name_for_all_loaders_beside_one_for_each():
    class Both(Shares):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            super().validation_step(batch, batch_idx)
            self.log("all", self.one, add_dataloader_idx=False)

    metrics = fit(Both(torchmetrics.MeanMetric()), [loader(FIRST), loader(SECOND)])
    assert (metrics["val/dataloader_idx_0"], metrics["val/dataloader_idx_1"]) == (1.0, 11.0)
    assert metrics["all"] == pytest.approx(23 / 3)


def test_members_of_a_collection_that_share_their_states():
    class Collects(TinyModule):
        def __init__(self):
            super().__init__()
            self.both = torchmetrics.MetricCollection([BinaryPrecision(), BinaryRecall()])

        def log_all(self, stage, truth):
            self.both.update(torch.ones(2), torch.tensor([truth, 1]))
            self.log_dict({f"{stage}/{name}": each for name, each in self.both.items()}, on_step=False, on_epoch=True)

        def training_step(self, batch, batch_idx):
            self.log_all("train", 0)
            return self.layer.weight.sum()

        def validation_step(self, batch, batch_idx):
            self.log_all("val", 1)

    metrics = fit(Collects(), loader(FIRST))
    assert (metrics["train/BinaryPrecision"], metrics["val/BinaryPrecision"]) == (0.5, 1.0)


def test_objects_of_one_place_are_what_they_were():
    """One for training and one for each loader; hooks of the validation read them all."""

    class Own(TinyModule):
        def __init__(self):
            super().__init__()
            self.train_mean = torchmetrics.MeanMetric()
            self.val_means = torch.nn.ModuleList([torchmetrics.MeanMetric(), torchmetrics.MeanMetric()])
            self.read = []

        def training_step(self, batch, batch_idx):
            self.train_mean.update(batch)
            self.log("train", self.train_mean, on_step=False, on_epoch=True)
            return self.layer.weight.sum()

        def validation_step(self, batch, batch_idx, dataloader_idx):
            self.val_means[dataloader_idx].update(batch)
            self.log("val", self.val_means[dataloader_idx])

        def on_validation_epoch_end(self):
            self.read.append([each.compute().item() for each in (self.train_mean, *self.val_means)])

    module = Own()
    assert fit(module, [loader(FIRST), loader(SECOND)])["train"] == 250.0
    assert module.read == [[200.0, 1.0, 11.0]] * 2


def test_one_that_training_logs_only_at_its_end_is_refused():
    module = Shares(torchmetrics.MeanMetric(), trains=False)
    module.on_train_batch_start = lambda batch: module.one.update(batch)
    with pytest.raises(MetricError, match=r"(?s)'val'.*MeanMetric.*values of training too.*self\.one"):
        fit(module, loader(FIRST))
    # A module that resets it by itself is right.
    module.on_validation_start = module.one.reset
    assert fit(module, loader(FIRST))["val"] == 1.0


@pytest.mark.parametrize("trains", [True, False])
def test_one_that_is_made_of_others_is_refused(trains):
    module = Shares(torchmetrics.MinMaxMetric(torchmetrics.MeanMetric()), trains=trains, at_end=False)
    module.one.compute = lambda: torch.tensor(1.0)
    with pytest.raises(MetricError, match=r"(?s)'val'.*(of training|of another dataloader) too.*self\.one"):
        fit(module, [loader(FIRST), loader(SECOND)])


@pytest.mark.parametrize("kind", MEANS)
@pytest.mark.parametrize("hook", ["on_validation_batch_end", "on_validation_epoch_end", "on_validation_start"])
def test_a_run_goes_on_with_what_was_stashed(tmp_path, hook, kind):
    class Saves:
        pass

    def save(trainer):
        if not trainer.sanity_checking:
            trainer.save_checkpoint(tmp_path / f"{len(list(tmp_path.iterdir()))}.ckpt")

    val = [loader(FIRST), loader(SECOND)]
    saves = Saves()
    setattr(saves, hook, save)
    whole = fit(Shares(MAKE[kind]()), val, callbacks=[saves])
    files = sorted(tmp_path.iterdir())
    assert len(files) == (6 if hook == "on_validation_batch_end" else 2)
    for file in files:
        trainer = quiet_trainer(val_check_interval=3, max_epochs=2)
        trainer.fit(Shares(MAKE[kind]()), loader(TRAIN), val, ckpt_path=file)
        assert {name: value.item() for name, value in trainer.callback_metrics.items()} == whole, file.name


def test_an_exception_in_a_validation_leaves_nothing_to_the_next_fit():
    class Fails(Shares):
        fails = True

        def on_validation_batch_end(self):
            if self.fails:
                raise ArithmeticError

    module = Fails(torchmetrics.MeanMetric())
    trainer = quiet_trainer(val_check_interval=3)
    for fails in (True, False):
        module.fails = fails
        if fails:
            with pytest.raises(ArithmeticError):
                trainer.fit(module, loader(TRAIN), loader(FIRST))
        else:
            trainer.fit(module, loader(TRAIN), loader(FIRST))
    assert {name: value.item() for name, value in trainer.callback_metrics.items()} == {"train": 250.0, "val": 1.0}


def test_ranks_settle_each_loader_together(on_ranks):
    def evaluate(rank):
        collector, metric = MetricCollector(rank), torchmetrics.SumMetric()
        collector.begin_phase(Phase.VALIDATE, 2)
        for index in range(2):
            collector.begin_batches(index).batch = torch.zeros(1)
            if rank.rank == 0 or index == 0:
                metric.update(1.0)
                collector.log("sum", metric)
        collector.end_batches()
        return collector.results()

    for error in on_ranks(2, evaluate):
        assert isinstance(error, MetricError)
        assert "was logged on some ranks, but not on rank 1" in str(error)


def test_pearson_is_right_for_each_loader():
    x = torch.tensor([1.0, 2.0, 3.0])
    pairs = [(x, x), (x, -x)]

    class Correlates(Shares):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            self.one.update(*pairs[dataloader_idx])
            self.log("r", self.one)

    module = Correlates(PearsonCorrCoef(), at_end=False)
    results = quiet_trainer().validate(module, [loader(FIRST), loader(FIRST)])
    assert [value for result in results for value in result.values()] == pytest.approx([1.0, -1.0])


class TwoQuantities(TinyModule):
    """Updates one object for two names within a batch."""

    def __init__(self, **options):
        super().__init__()
        self.mse, self.options = torchmetrics.MeanSquaredError(), options

    def two(self, batch):
        self.mse(batch, batch)
        self.log("zero", self.mse, **self.options)
        self.mse(batch, batch + 2)
        self.log("four", self.mse, **self.options)

    def training_step(self, batch, batch_idx):
        self.two(batch)
        return self.layer.weight.sum()


TWO_NAMES = r"'four'.* since it was logged as 'zero'.*\n.* self\.mse\n.*for each"


def test_an_update_between_two_names_of_a_batch_is_refused_in_an_evaluation(tmp_path):
    class Module(TwoQuantities):
        def validation_step(self, batch, batch_idx):
            self.two(batch)

    with pytest.raises(MetricError, match=TWO_NAMES):
        quiet_trainer(default_root_dir=tmp_path).validate(Module(), [torch.ones(2)])


@pytest.mark.parametrize("on_step", [True, False])
def test_an_update_between_two_names_of_a_batch_is_refused_in_training(tmp_path, on_step):
    module = TwoQuantities(on_step=on_step, on_epoch=True)
    with pytest.raises(MetricError, match=TWO_NAMES):
        quiet_trainer(max_epochs=1, default_root_dir=tmp_path).fit(module, [torch.ones(2)])


def test_values_of_single_batches_are_those_of_each_update(tmp_path):
    trainer = quiet_trainer(max_epochs=1, default_root_dir=tmp_path)
    trainer.fit(TwoQuantities(on_step=True, on_epoch=False), [torch.ones(2)] * 2)
    assert (trainer.callback_metrics["zero"], trainer.callback_metrics["four"]) == (0, 4)


def test_names_that_share_what_an_object_has_are_right(tmp_path):
    class Module(TinyModule):
        """Two names in each order, one of them not in each batch, one twice in a batch, and one in a hook."""

        def __init__(self):
            super().__init__()
            self.mean = torchmetrics.MeanMetric()

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.mean.update(batch)
            if batch_idx == 1:
                self.log("sometimes", self.mean)
            self.log("always", self.mean)
            self.mean.update(batch)
            self.log("always", self.mean)

        def on_validation_epoch_end(self):
            self.log("hook", self.mean)

    batches = [torch.tensor(value) for value in (1.0, 5.0)]
    loaders = [DataLoader(each, batch_size=None) for each in (batches, batches[:1])]
    first, second = quiet_trainer(default_root_dir=tmp_path).validate(Module(), loaders)
    assert first == {"sometimes/dataloader_idx_0": 3, "always/dataloader_idx_0": 3, "hook": pytest.approx(7 / 3)}
    assert second == {"always/dataloader_idx_1": 1, "hook": pytest.approx(7 / 3)}
