"""What a resumed run takes from its checkpoint and what from the code."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from types import MethodType

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, random_split

from trainkit import DataModule
from trainkit.callbacks import EarlyStopping, ModelCheckpoint
from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights, quiet_trainer


class Momentum(TinyModule):
    """Has state in its optimizer and its scheduler."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return [optimizer], [StepLR(optimizer, step_size=1, gamma=0.7)]


class Worsening(TinyModule):
    """Logs a score that only gets worse."""

    def on_validation_epoch_end(self):
        self.log("val/score", float(self.current_epoch))

    def validation_step(self, batch, batch_idx):
        pass


def test_resumed_run_equals_one_that_never_stopped(tmp_path):
    whole, data = Momentum(), TinyData(5)
    quiet_trainer(max_epochs=4).fit(whole, data)

    half = quiet_trainer(max_epochs=2)
    half.fit(Momentum(), data)
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed = Momentum(seed=5)
    trainer = quiet_trainer(max_epochs=4)
    trainer.fit(resumed, data, ckpt_path=tmp_path / "half.ckpt")
    assert (trainer.current_epoch, trainer.global_step) == (4, 20)
    assert_same_weights(resumed, whole)


@pytest.mark.parametrize("stop_after", range(1, 10))
def test_run_resumed_in_mid_epoch_equals_one_that_never_stopped(tmp_path, stop_after):
    class Save:
        def on_train_batch_end(self, trainer):
            if trainer.progress.total_batches == stop_after:
                trainer.save_checkpoint(tmp_path / "mid.ckpt")

    whole, data = Momentum(), TinyData(5)
    quiet_trainer(max_epochs=2, callbacks=[Save()]).fit(whole, data)
    recorder = Recorder(
        only=["on_train_batch_start"], look=lambda trainer, module: (trainer.current_epoch, trainer.global_step)
    )
    resumed = Momentum(seed=5)
    quiet_trainer(max_epochs=2, callbacks=[recorder]).fit(resumed, data, ckpt_path=tmp_path / "mid.ckpt")
    assert recorder.seen("on_train_batch_start")[0] == (stop_after // 5, stop_after)
    assert len(recorder.calls) == 10 - stop_after
    assert_same_weights(resumed, whole)


class Split(DataModule):
    """Splits its samples at random."""

    def setup(self, stage):
        x = torch.arange(48.0).reshape(12, 4)
        self.train, self.val = random_split(TensorDataset(x, x[:, :2]), [8, 4])

    def train_dataloader(self):
        return DataLoader(self.train, 2)

    def val_dataloader(self):
        return DataLoader(self.val, 2)


@pytest.mark.parametrize("step", [2, 4])
@pytest.mark.filterwarnings("ignore:.*loss is inf")
def test_random_split_stays_what_it_was_though_nobody_gave_a_seed(tmp_path, step):
    class Save:
        def on_train_batch_end(self, trainer):
            if trainer.global_step == step:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    def fit(*callbacks, ckpt_path=None):
        torch.seed()
        data = Split()
        quiet_trainer(max_epochs=2, callbacks=list(callbacks)).fit(TinyModule(), datamodule=data, ckpt_path=ckpt_path)
        return data.train.indices, data.val.indices

    first = fit(Save())
    assert fit(ckpt_path=tmp_path / "a.ckpt") == first
    assert fit() != first


class Counted(DataModule):
    """Counts the epochs for which it gave a loader, and keeps the count."""

    def __init__(self):
        super().__init__()
        self.events = []
        self.epochs = 0

    def setup(self, stage):
        self.events.append("setup")

    def train_dataloader(self):
        self.events.append(f"loader {self.epochs}")
        self.epochs += 1
        return TinyData(2)

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict):
        self.events.append("load")
        self.epochs = state_dict["epochs"]


@pytest.mark.parametrize(("batches", "epochs"), [(1, 1), (2, 1), (3, 2)])
def test_a_data_module_has_its_state_back_before_it_is_asked_for_loaders(tmp_path, batches, epochs):
    class Save:
        def on_train_batch_end(self, trainer):
            if trainer.progress.total_batches == batches:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    first = Counted()
    trainer = quiet_trainer(max_epochs=2, reload_dataloaders_every_n_epochs=1, callbacks=[Save()])
    trainer.fit(TinyModule(), datamodule=first)
    assert first.events == ["setup", "loader 0", "loader 1"]

    resumed = Counted()
    trainer = quiet_trainer(max_epochs=2, reload_dataloaders_every_n_epochs=1)
    trainer.fit(TinyModule(), datamodule=resumed, ckpt_path=tmp_path / "a.ckpt")
    assert resumed.events[:3] == ["setup", "load", f"loader {epochs}"]
    assert trainer.global_step == 4


def test_max_epochs_given_in_code_wins(tmp_path):
    first = quiet_trainer(max_epochs=1)
    first.fit(TinyModule(), TinyData(2))
    first.save_checkpoint(tmp_path / "a.ckpt")
    trainer = quiet_trainer(max_epochs=3)
    trainer.fit(TinyModule(), TinyData(2), ckpt_path=tmp_path / "a.ckpt")
    assert trainer.global_step == 6


def test_patience_given_in_code_wins_while_the_count_is_restored(tmp_path):
    def run(patience, max_epochs, ckpt_path=None):
        trainer = quiet_trainer(max_epochs=max_epochs, callbacks=[EarlyStopping("val/score", patience=patience)])
        trainer.fit(Worsening(), TinyData(2), TinyData(1), ckpt_path=ckpt_path)
        return trainer

    first = run(patience=9, max_epochs=3)
    first.save_checkpoint(tmp_path / "a.ckpt")
    # Two bad epochs were counted before the stop, so a patience of 4 ends the run after two more.
    resumed = run(patience=4, max_epochs=20, ckpt_path=tmp_path / "a.ckpt")
    assert resumed.early_stopping_callback.patience == 4
    assert resumed.current_epoch == 5


def test_save_top_k_given_in_code_wins_while_the_ranking_is_restored(tmp_path):
    def run(save_top_k, max_epochs, ckpt_path=None):
        checkpoint = ModelCheckpoint(dirpath=tmp_path / "saved", monitor="val/score", save_top_k=save_top_k)
        trainer = quiet_trainer(max_epochs=max_epochs, enable_checkpointing=True, callbacks=[checkpoint])
        trainer.fit(Worsening(), TinyData(2), TinyData(1), ckpt_path=ckpt_path)
        return trainer

    first = run(save_top_k=1, max_epochs=2)
    first.save_checkpoint(tmp_path / "a.ckpt")
    resumed = run(save_top_k=2, max_epochs=4, ckpt_path=tmp_path / "a.ckpt")
    assert resumed.checkpoint_callback.best_model_score == 0.0
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "epoch=0-step=2.ckpt",
        "epoch=2-step=6.ckpt",
    ]


def test_last_continues_the_newest_run_below_the_default_root_dir(tmp_path):
    def run(max_epochs, ckpt_path=None, **arguments):
        recorder = Recorder(
            only=["on_train_epoch_start"], look=lambda trainer, module: (trainer.current_epoch, trainer.global_step)
        )
        trainer = quiet_trainer(
            max_epochs=max_epochs,
            default_root_dir=tmp_path,
            enable_checkpointing=True,
            callbacks=[recorder],
            **arguments,
        )
        module = Momentum()
        trainer.fit(module, TinyData(2), ckpt_path=ckpt_path)
        return module, recorder.seen("on_train_epoch_start"), trainer

    whole = Momentum()
    quiet_trainer(max_epochs=3).fit(whole, TinyData(2))
    run(max_epochs=1)
    module, epochs, _ = run(max_epochs=3, ckpt_path="last")
    assert epochs == [(1, 2), (2, 4)]
    assert_same_weights(module, whole)
    assert len({path.parent for path in tmp_path.rglob("*.ckpt")}) == 1
    assert (tmp_path / "checkpoints/last.ckpt").is_file()


def test_last_goes_on_in_the_folder_of_the_run(tmp_path):
    from trainkit import Trainer

    def run(max_epochs, ckpt_path=None):
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=max_epochs,
            default_root_dir=tmp_path,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(TinyModule(), TinyData(2), ckpt_path=ckpt_path)
        return trainer

    first = run(1)
    second = run(2)
    assert second.log_dir != first.log_dir
    third = run(3, "last")
    assert third.log_dir == second.log_dir
    assert third.global_step == 6


class Killed(Exception):
    pass


class KillAt:
    """Ends a run as if it had been killed, with rows logged behind the last checkpoint."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer):
        if trainer.global_step == self.step:
            raise Killed


@pytest.mark.parametrize("saves", [{}, {"every_n_train_steps": 3}, {"save_on_train_epoch_end": False}])
def test_curves_of_a_run_that_was_killed_and_goes_on_have_no_doubles_and_no_gaps(tmp_path, saves):
    def fit(folder, *callbacks, ckpt_path=None):
        trainer = quiet_trainer(
            max_epochs=3,
            logger=True,
            log_every_n_steps=1,
            val_check_interval=2,
            enable_checkpointing=True,
            default_root_dir=folder,
            callbacks=[ModelCheckpoint(save_top_k=-1, **saves), *callbacks],
        )
        trainer.fit(Momentum(), TinyData(4), TinyData(2), ckpt_path=ckpt_path)
        return trainer

    whole = fit(tmp_path / "whole")
    for step in (7, 11):
        with pytest.raises(Killed):
            fit(tmp_path / "killed", KillAt(step), ckpt_path="last" if step == 11 else None)
    resumed = fit(tmp_path / "killed", ckpt_path="last")
    assert [path.name for path in (tmp_path / "killed" / "trainkit_logs").iterdir()] == ["version_0"]
    tables = [Path(trainer.log_dir, "metrics.csv").read_text() for trainer in (whole, resumed)]
    assert tables[0] == tables[1]
    assert curves(whole.log_dir) == curves(resumed.log_dir)


def curves(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_last_is_the_newest_whole_file_for_a_fit_and_the_newest_weights_for_an_evaluation(tmp_path):
    trained = quiet_trainer(default_root_dir=tmp_path)
    trained.fit(Momentum(), TinyData(2))
    trained.save_checkpoint(tmp_path / "whole.ckpt")
    other = quiet_trainer(max_epochs=3)
    other.fit(Momentum(seed=8), TinyData(2))
    other.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    for age_s, name in ((2, "whole.ckpt"), (1, "weights.ckpt")):
        os.utime(tmp_path / name, (1e9 - age_s, 1e9 - age_s))

    module = Momentum(seed=9)
    trainer = quiet_trainer(default_root_dir=tmp_path)
    trainer.validate(module, TinyData(1), ckpt_path="last", verbose=False)
    assert trainer.ckpt_path == str(tmp_path / "weights.ckpt")
    assert_same_weights(module, other.module)

    whole, resumed = Momentum(), Momentum(seed=9)
    quiet_trainer(max_epochs=2).fit(whole, TinyData(2))
    trainer = quiet_trainer(max_epochs=2, default_root_dir=tmp_path)
    trainer.fit(resumed, TinyData(2), ckpt_path="last")
    assert trainer.ckpt_path == str(tmp_path / "whole.ckpt")
    assert trainer.global_step == 4
    assert_same_weights(resumed, whole)


def test_last_without_any_run_warns_and_starts_fresh(tmp_path):
    trainer = quiet_trainer(default_root_dir=tmp_path)
    with pytest.warns(UserWarning, match="last"):
        trainer.fit(TinyModule(), TinyData(2), ckpt_path="last")
    assert trainer.global_step == 2


def test_best_is_the_best_of_this_trainers_checkpoint_callback(tmp_path):
    checkpoint = ModelCheckpoint(dirpath=tmp_path, monitor="val/score", save_top_k=-1)
    trainer = quiet_trainer(max_epochs=2, enable_checkpointing=True, callbacks=[checkpoint])
    trainer.fit(Worsening(), TinyData(2), TinyData(1))
    best = torch.load(tmp_path / "epoch=0-step=2.ckpt", weights_only=True)["state_dict"]
    module = Worsening(seed=4)
    trainer.validate(module, TinyData(1), ckpt_path="best")
    assert torch.equal(module.layer.weight, best["layer.weight"])


def test_loaders_of_a_resumed_run_are_made_for_the_epochs_they_would_have_been_made_for(tmp_path):
    class Curriculum(TinyModule):
        made = ()

        def train_dataloader(self):
            self.made = (*self.made, self.current_epoch)
            return TinyData(2)

    def fit(module, max_epochs, **arguments):
        trainer = quiet_trainer(max_epochs=max_epochs, reload_dataloaders_every_n_epochs=2)
        trainer.fit(module, **arguments)
        return trainer

    whole, first, resumed = Curriculum(), Curriculum(), Curriculum()
    fit(whole, 6)
    fit(first, 3).save_checkpoint(tmp_path / "third.ckpt")
    fit(resumed, 6, ckpt_path=tmp_path / "third.ckpt")
    assert whole.made == (0, 2, 4)
    assert resumed.made == (3, 4)


class Unsized(IterableDataset):
    def __iter__(self):
        return iter(TinyData(4))


class SavesAt:
    """Saves a checkpoint in one hook of batch 2, or of epoch 0 where a hook has none."""

    def __init__(self, hook, path):
        def save(self, trainer):
            if trainer.progress.batch == (3 if hook == "on_train_batch_end" else 2):
                trainer.save_checkpoint(path)

        setattr(self, hook, MethodType(save, self))


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_before_backward", "on_before_optimizer_step"])
def test_a_save_in_the_middle_of_a_step_warns_and_names_the_place_to_save(tmp_path, hook):
    trainer = quiet_trainer(callbacks=[SavesAt(hook, tmp_path / "a.ckpt")])
    with pytest.warns(UserWarning, match=r"middle of a step, that of batch 2 in epoch 0.* Save in on_train_batch_end"):
        trainer.fit(TinyModule(), TinyData(4))


@pytest.mark.parametrize("loader", [TinyData(1), TinyData(4), Unsized()], ids=["one batch", "list", "no length"])
def test_a_save_outside_of_steps_does_not_warn(tmp_path, loader):
    hooks = ["on_train_batch_end", "on_validation_batch_end", "on_validation_end", "on_train_epoch_start"]
    hooks += ["on_train_epoch_end", "on_train_start", "on_train_end", "on_fit_end", "on_sanity_check_end", "teardown"]

    class SavesEverywhere:
        def save(self, trainer):
            trainer.save_checkpoint(tmp_path / "a.ckpt")

    for hook in hooks:
        setattr(SavesEverywhere, hook, SavesEverywhere.save)
    trainer = quiet_trainer(callbacks=[SavesEverywhere()], max_epochs=2, val_check_interval=1, num_sanity_val_steps=1)
    trainer.fit(TinyModule(), loader, TinyData(2))
    trainer.save_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("hook", ["on_fit_start", "on_train_start", "on_validation_end"])
def test_a_run_that_saves_again_before_its_first_batch_keeps_its_place(tmp_path, hook):
    class SavesAtOnce:
        def save(self, trainer):
            trainer.save_checkpoint(tmp_path / "again.ckpt")
            raise Killed

    class Stops:
        def on_train_batch_end(self, trainer):
            if trainer.global_step == 2:
                trainer.save_checkpoint(tmp_path / "first.ckpt")
                raise Killed

    def fit(*callbacks, **arguments):
        module, loader = Shuffled(), DataLoader(TensorDataset(torch.arange(6.0)), shuffle=True)
        trainer = quiet_trainer(max_epochs=2, val_check_interval=2, callbacks=callbacks)
        with nullcontext() if not callbacks else pytest.raises(Killed):
            trainer.fit(module, loader, TinyData(1), **arguments)
        return module.seen

    setattr(SavesAtOnce, hook, SavesAtOnce.save)
    torch.manual_seed(0)
    whole = fit()
    torch.manual_seed(0)
    seen = fit(Stops())
    fit(SavesAtOnce(), ckpt_path=tmp_path / "first.ckpt")
    assert seen + fit(ckpt_path=tmp_path / "again.ckpt") == whole


class Shuffled(TinyModule):
    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0].item())
        return self.layer.weight.sum() * batch[0].mean()


@pytest.mark.parametrize(
    ("hook", "still_to_come"),
    [
        ("on_train_batch_end", ["on_validation_end", "on_train_epoch_end"]),
        ("on_validation_end", ["on_train_epoch_end"]),
    ],
)
def test_what_an_epoch_ends_with_is_made_up_for_where_max_steps_was_reached_at_its_last_batch(
    tmp_path, hook, still_to_come
):
    class Saves:
        def save(self, trainer):
            if trainer.global_step == 4:
                trainer.save_checkpoint(tmp_path / "a.ckpt")
                raise Killed

    setattr(Saves, hook, Saves.save)
    with pytest.raises(Killed):
        quiet_trainer(max_epochs=3, max_steps=4, callbacks=[Saves()]).fit(TinyModule(), TinyData(2), TinyData(1))
    recorder = Recorder(only=["on_train_batch_start", "on_validation_end", "on_train_epoch_end"])
    trainer = quiet_trainer(max_epochs=3, max_steps=4, callbacks=[recorder])
    trainer.fit(TinyModule(), TinyData(2), TinyData(1), ckpt_path=tmp_path / "a.ckpt")
    assert recorder.names == still_to_come
    assert (trainer.current_epoch, trainer.global_step) == (2, 4)
    trainer.save_checkpoint(tmp_path / "b.ckpt")
    with pytest.warns(UserWarning, match="nothing is left to train"):
        trainer.fit(TinyModule(), TinyData(2), TinyData(1), ckpt_path=tmp_path / "b.ckpt")
    assert recorder.names == still_to_come


class Redrawing(Momentum):
    """Trains on other samples in each epoch, in an order of their own."""

    def __init__(self, seed=0):
        super().__init__(seed=seed)
        self.seen = []

    def train_dataloader(self):
        x = torch.arange(48.0).reshape(12, 4)
        chosen = torch.randperm(12)[:8]
        generator = torch.Generator().manual_seed(5)
        return DataLoader(TensorDataset(x[chosen], x[chosen, :2]), 2, shuffle=True, generator=generator)

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0][:, 0].tolist())
        return super().training_step(batch, batch_idx)


def test_loaders_that_are_drawn_anew_in_each_epoch_are_those_of_the_run_that_goes_on(tmp_path):
    class Save:
        def on_train_batch_end(self, trainer):
            trainer.save_checkpoint(tmp_path / f"{trainer.progress.total_batches}.ckpt")

        def on_train_epoch_end(self, trainer):
            trainer.save_checkpoint(tmp_path / f"{trainer.progress.total_batches}.ckpt")

    def fit(*callbacks, ckpt_path=None):
        torch.seed()
        module = Redrawing()
        # Its losses may grow without bound, depending on what is drawn.
        arguments = {"reload_dataloaders_every_n_epochs": 1, "on_nonfinite_loss": "ignore"}
        trainer = quiet_trainer(max_epochs=3, callbacks=list(callbacks), **arguments)
        trainer.fit(module, ckpt_path=ckpt_path)
        return module

    whole = fit(Save())
    for batches in range(1, 12):
        resumed = fit(ckpt_path=tmp_path / f"{batches}.ckpt")
        assert resumed.seen == whole.seen[batches:], batches
        assert_same_weights(resumed, whole)
