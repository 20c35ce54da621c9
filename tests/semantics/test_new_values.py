"""A value of a monitored metric counts once: for saving, for stopping and for plateau schedulers."""

import itertools
import random
import warnings

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from trainkit.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from trainkit.errors import MetricError
from trainkit.testing import TinyData, TinyModule, quiet_trainer

BATCHES, EPOCHS = 4, 6

KINDS = ("train/epoch", "train/step", "train/both", "train/even", "train/odd", "val/score")
CADENCES = (
    {},
    {"check_val_every_n_epoch": 2},
    {"check_val_every_n_epoch": 3},
    {"val_check_interval": 2},
    {"val_check_interval": 3, "check_val_every_n_epoch": 2},
    {"val_check_interval": 5, "check_val_every_n_epoch": None},
)
TRIGGERS = (
    {},
    {"every_n_epochs": 2},
    {"every_n_epochs": 3},
    {"every_n_train_steps": 3},
    {"every_n_train_steps": 4},
    {"save_on_train_epoch_end": True},
    {"save_on_train_epoch_end": False},
)


class Scores(TinyModule):
    """Logs scores under the names of KINDS: ``scores[n]`` in the n-th step, epoch or validation."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def training_step(self, batch, batch_idx):
        epoch = self.trainer.current_epoch
        self.log("train/epoch", self.scores[epoch], on_step=False, on_epoch=True)
        self.log("train/step", self.scores[self.global_step])
        self.log("train/both", self.scores[epoch], on_step=True, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def on_train_epoch_end(self):
        epoch = self.trainer.current_epoch
        self.log("train/odd" if epoch % 2 else "train/even", self.scores[epoch])

    def validation_step(self, batch, batch_idx):
        # By the step, so that a run that goes on logs what the whole one did.
        self.log("val/score", self.scores[self.global_step])


def save_points(kind, cadence, trigger, scores):
    """Yield the step of each save point of the ranking, with its new score, or None if it has none; by hand."""
    step, value, used = 0, None, None
    count = itertools.count()
    pending = False
    every = trigger.get("every_n_train_steps")
    at_end = trigger.get("save_on_train_epoch_end")

    def publish(score):
        nonlocal value
        value = (next(count), score)

    def save(ranked=True):
        nonlocal used
        new, used = value if value != used else None, value
        return [(step, new[1] if new else None)] if ranked else []

    def at_save_point(epoch, is_point):
        nonlocal pending
        if every:
            due, pending = pending, False
            return save() if due else []
        if not is_point:
            return []
        return save(ranked=(epoch + 1) % trigger.get("every_n_epochs", 1) == 0)

    for epoch in range(EPOCHS):
        validated = None
        for batch in range(1, BATCHES + 1):
            if kind == "train/step":
                publish(scores[step])
            if kind == "train/both":
                publish(scores[epoch])
            step += 1
            pending = pending or (bool(every) and step % every == 0)
            validates = is_due(cadence, epoch, batch, step)
            if pending and batch < BATCHES and not validates:
                yield from at_save_point(epoch, False)
            if validates:
                validated = batch
                if kind == "val/score":
                    publish(scores[step])
                if batch < BATCHES or at_end is False:
                    yield from at_save_point(epoch, at_end is not True)
        if kind in ("train/epoch", "train/both") or kind == ("train/odd" if epoch % 2 else "train/even"):
            publish(scores[epoch])
        yield from at_save_point(epoch, at_end or (at_end is None and validated in (None, BATCHES)))


def is_due(cadence, epoch, batch, step):
    interval, every = cadence.get("val_check_interval", BATCHES), cadence.get("check_val_every_n_epoch", 1)
    if every is None:
        return step % interval == 0
    return (epoch + 1) % every == 0 and batch % interval == 0


def fit(module, *callbacks, ckpt_path=None, **arguments):
    defaults = {"max_epochs": EPOCHS, "enable_checkpointing": True, "keep_last": False}
    trainer = quiet_trainer(**(defaults | arguments), callbacks=callbacks)
    with warnings.catch_warnings():
        # Told in mid-epoch, until the metric is logged for the first time.
        warnings.filterwarnings("ignore", message="(?s).*Until it is there, nothing is ranked")
        trainer.fit(module, TinyData(BATCHES), TinyData(1), ckpt_path=ckpt_path)
    return trainer


def kept(checkpoint):
    return sorted((int(path.split("step=")[1].split(".")[0]), float(s)) for path, s in checkpoint.best_k_models.items())


def expected_files(points, save_top_k):
    scored = [(step, score) for step, score in points if score is not None]
    best = sorted(scored, key=lambda point: (point[1], point[0]))
    return sorted(best if save_top_k == -1 else best[:save_top_k])


def asked_too_early(kind, cadence, trigger):
    """Whether a save that is due at the end of an epoch finds that the metric was never logged; by hand."""
    first = trigger.get("every_n_epochs", 1) - 1
    if "every_n_train_steps" in trigger:
        first = 0 if trigger["every_n_train_steps"] == BATCHES else EPOCHS
    return kind == "train/odd" and first == 0


def draws(count):
    every = list(itertools.product(KINDS, CADENCES, TRIGGERS))
    return random.Random(0).sample(every, count)


@pytest.mark.parametrize(("kind", "cadence", "trigger"), draws(40))
def test_what_is_kept(tmp_path, kind, cadence, trigger):
    draw = random.Random(f"{kind}{cadence}{trigger}")
    scores = [draw.choice([1.0, 2.0, 3.0]) for _ in range(BATCHES * EPOCHS + 1)]
    points = list(save_points(kind, cadence, trigger, scores))
    checkpoints = [
        ModelCheckpoint(tmp_path / str(top_k), monitor=kind, save_top_k=top_k, **trigger) for top_k in (-1, 1, 3)
    ]
    for checkpoint in checkpoints:
        try:
            fit(Scores(scores), checkpoint, **cadence)
        except MetricError:
            assert asked_too_early(kind, cadence, trigger)
        else:
            assert kept(checkpoint) == expected_files(points, checkpoint.save_top_k)


class Killed(Exception):
    """Stands for the end of a process."""


class SaveAndDie(Callback):
    def __init__(self, folder, step):
        self.folder, self.step = folder, step

    def on_train_batch_end(self, trainer):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.folder / "stop.ckpt")
            raise Killed


@pytest.mark.parametrize("stop_at", [3, 7, 8, 13])
@pytest.mark.parametrize("kind", ["train/epoch", "train/step", "train/both", "val/score"])
def test_a_run_that_goes_on_keeps_the_same(tmp_path, kind, stop_at):
    cadence, trigger = {"check_val_every_n_epoch": 2}, {"every_n_train_steps": 3}
    scores = [float(score % 3) for score in range(BATCHES * EPOCHS + 1)]

    def make():
        return ModelCheckpoint(tmp_path / "kept", monitor=kind, save_top_k=-1, **trigger)

    with pytest.raises(Killed):
        fit(Scores(scores), make(), SaveAndDie(tmp_path, stop_at), **cadence)
    resumed = make()
    fit(Scores(scores), resumed, **cadence, ckpt_path=tmp_path / "stop.ckpt")
    assert kept(resumed) == expected_files(save_points(kind, cadence, trigger, scores), -1)


def test_the_rest_of_an_epoch_that_was_left_in_the_middle_makes_a_new_value(tmp_path):
    def make():
        return ModelCheckpoint(tmp_path, monitor="train/epoch", save_top_k=-1, save_last=True)

    fit(Scores([1.0] * 9), make(), max_steps=3)
    resumed = make()
    fit(Scores([1.0] * 9), resumed, max_epochs=2, ckpt_path=tmp_path / "last.ckpt")
    assert kept(resumed) == [(3, 1.0), (4, 1.0), (8, 1.0)]


def test_a_metric_that_repeats_its_value_is_new_each_time(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, monitor="train/epoch", mode="max", save_top_k=3)
    fit(Scores([0.5, 0.7, 0.7, 0.8] + [0.0] * 20), checkpoint, max_epochs=4)
    assert [step for step, _ in kept(checkpoint)] == [8, 12, 16]


def test_a_callback_begins_anew_in_another_trainer(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, monitor="train/epoch", save_top_k=-1)
    fit(Scores([1.0] * 9), checkpoint, max_epochs=1)
    fit(Scores([1.0] * 9), checkpoint, max_epochs=2, limit_train_batches=3)
    assert [step for step, _ in kept(checkpoint)] == [3, 4, 6]


def test_learning_rates_are_new_whenever_they_are_read(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, monitor="lr-SGD", save_top_k=-1)
    fit(Scores([1.0] * 25), LearningRateMonitor("epoch"), checkpoint, max_epochs=3)
    assert [step for step, _ in kept(checkpoint)] == [4, 8, 12]


def test_a_metric_is_asked_for_only_where_a_save_is_due(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, monitor="train/odd", save_top_k=-1, every_n_epochs=2)
    fit(Scores([1.0] * 25), checkpoint)
    assert [step for step, _ in kept(checkpoint)] == [8, 16, 24]
    with pytest.raises(MetricError, match="no metric 'train/odd' has been logged"):
        fit(Scores([1.0] * 25), ModelCheckpoint(tmp_path, monitor="train/odd"))


def test_a_run_in_which_no_save_met_a_new_value_says_so(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, monitor="val/score", every_n_epochs=3)
    with pytest.warns(UserWarning, match="'val/score' had no new value whenever a save was due"):
        fit(Scores([1.0] * 25), checkpoint, check_val_every_n_epoch=2, max_epochs=5)
    assert kept(checkpoint) == []


@pytest.mark.parametrize("when", [None, False])
def test_a_metric_that_never_comes_is_an_error_whichever_save_asks_for_it(tmp_path, when):
    checkpoint = ModelCheckpoint(tmp_path, monitor="val/scor", save_on_train_epoch_end=when)
    with pytest.raises(MetricError, match="did you mean 'val/score'"):
        fit(Scores([1.0] * 25), checkpoint)


class Noted(EarlyStopping):
    """Notes in which step it judged a value."""

    def __init__(self, monitor, **arguments):
        super().__init__(monitor, patience=100, **arguments)
        self.judged = []

    def on_validation_end(self, trainer):
        self.step = trainer.global_step
        super().on_validation_end(trainer)

    def on_train_epoch_end(self, trainer):
        self.step = trainer.global_step
        super().on_train_epoch_end(trainer)

    def _evaluate(self, score):
        self.judged.append(self.step)
        return super()._evaluate(score)


@pytest.mark.parametrize(
    ("monitor", "when", "cadence", "expected"),
    [
        ("val/score", True, {"check_val_every_n_epoch": 2}, [8, 16, 24]),
        ("train/epoch", False, {"val_check_interval": 2}, [6, 10, 14, 18, 22]),
        ("train/epoch", None, {}, [4, 8, 12, 16, 20, 24]),
        ("train/step", None, {"val_check_interval": 2}, list(range(2, 25, 2))),
        ("train/even", True, {}, [4, 12, 20]),
    ],
)
def test_patience_counts_new_values(monitor, when, cadence, expected):
    stopping = Noted(monitor, check_on_train_epoch_end=when, strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it is not there at the first check
        fit(Scores([1.0] * 25), stopping, enable_checkpointing=False, **cadence)
    assert stopping.judged == expected
    assert stopping.wait_count == len(expected) - 1


@pytest.mark.parametrize(
    ("config", "cadence", "expected"),
    [
        ({"interval": "step", "frequency": 2}, {}, [4, 8, 12, 16, 20, 24]),
        ({"interval": "step", "frequency": 3}, {}, [6, 9, 12, 18, 21, 24]),
        ({"interval": "epoch"}, {"check_val_every_n_epoch": 2}, [8, 16, 24]),
        ({"interval": "epoch", "monitor": "train/even"}, {}, [4, 12, 20]),
    ],
)
@pytest.mark.parametrize("stop_at", [None, 7, 8])
def test_a_plateau_is_stepped_with_new_values(tmp_path, config, cadence, expected, stop_at):
    class Plateau(Scores):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val/score", "strict": False}
            return [optimizer], [scheduler | config]

        def lr_scheduler_step(self, scheduler, metric):
            stepped.append(self.global_step)
            super().lr_scheduler_step(scheduler, metric)

    stepped = []
    scores = [1.0] * 25
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it is not there at the first update
        if stop_at is not None:
            with pytest.raises(Killed):
                fit(Plateau(scores), SaveAndDie(tmp_path, stop_at), enable_checkpointing=False, **cadence)
        path = None if stop_at is None else tmp_path / "stop.ckpt"
        fit(Plateau(scores), enable_checkpointing=False, ckpt_path=path, **cadence)
    assert stepped == expected
