"""A torchmetrics object that is logged goes on when a run is resumed, wherever it is kept."""

from __future__ import annotations

import pytest
from torchmetrics import MeanMetric, MetricCollection, SumMetric

from trainkit.callbacks import Callback, ModelCheckpoint
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Counts(Callback):
    """Keeps a metric, and counts batches of training and validation in it, which are logged when they are over."""

    def __init__(self, name):
        self.name, self.metrics = name, {"train": SumMetric(), "val": [MeanMetric()]}

    def on_train_batch_end(self, module, batch_idx):
        self.metrics["train"].update(batch_idx)

    def on_train_epoch_end(self, module):
        module.log(f"{self.name}/train", self.metrics["train"])

    def on_validation_batch_end(self, module, batch_idx):
        self.metrics["val"][0].update(batch_idx)

    def on_validation_epoch_end(self, module):
        module.log(f"{self.name}/val", self.metrics["val"][0])


class Module(TinyModule):
    def __init__(self):
        super().__init__()
        self.metric, self.listed, self.nested = SumMetric(), [SumMetric()], {"a": (0, [MeanMetric()])}
        self.collected = [MetricCollection({"sum": SumMetric(), "mean": MeanMetric()})]

    def metrics(self):
        members = self.collected[0].items()
        return {"own": self.metric, "list": self.listed[0], "nested": self.nested["a"][1][0], **dict(members)}

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        for name, metric in self.metrics().items():
            metric.update(loss.detach())
            self.log(f"train/{name}", metric, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        pass


def fit(folder, ckpt_path=None, *, hook="on_train_batch_end"):
    class Saves(Callback):
        stage = "persist"

    def save(trainer):
        trainer.save_checkpoint(folder / f"{trainer.global_step}.ckpt")

    saves = Saves()
    if ckpt_path is None:
        setattr(saves, hook, save)
    trainer = quiet_trainer(max_epochs=2, callbacks=[Counts("a"), Counts("b"), saves])
    trainer.fit(Module(), TinyData(4), TinyData(3), ckpt_path=ckpt_path)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


@pytest.mark.filterwarnings("ignore:nothing is left to train")
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_batch_end", "on_train_epoch_end"])
def test_it_goes_on_from_every_place(hook, tmp_path):
    whole = fit(tmp_path, hook=hook)
    assert len(whole) == 9
    checkpoints = list(tmp_path.glob("*.ckpt"))
    assert len(checkpoints) == (8 if hook == "on_train_batch_end" else 2)
    for path in checkpoints:
        assert fit(tmp_path, path) == whole, path


def test_one_that_is_found_nowhere_is_told_once(tmp_path):
    class Hidden:
        def __init__(self):
            self.metric = SumMetric()

    class Hides(TinyModule):
        def __init__(self):
            super().__init__()
            self.hidden = Hidden()

        def training_step(self, batch, batch_idx):
            self.hidden.metric.update(1.0)
            self.log("hidden", self.hidden.metric, on_step=False, on_epoch=True)
            return self.loss(batch)

    saves = ModelCheckpoint(tmp_path, every_n_train_steps=1)
    with pytest.warns(UserWarning, match="logged as 'hidden' is in no checkpoint") as caught:
        quiet_trainer(callbacks=[saves], enable_checkpointing=True).fit(Hides(), TinyData(4))
    assert len([each for each in caught if "no checkpoint" in str(each.message)]) == 1
