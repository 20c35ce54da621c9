"""Signals end a run at the next batch boundary, with a checkpoint from which it goes on exactly."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from trainkit import Trainer
from trainkit.callbacks import ModelCheckpoint
from trainkit.seed import isolate_rng
from trainkit.testing import Recorder, TinyModule, assert_same_weights, quiet_trainer

SIGNALS = {
    signal.SIGINT: (KeyboardInterrupt, None),
    signal.SIGTERM: (SystemExit, 143),
    signal.SIGUSR1: (SystemExit, 138),
}


class Noisy(TinyModule):
    """Draws random numbers in training, so that a run that continues elsewhere in their stream shows."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.loss((torch.nn.functional.dropout(x, 0.5), y))
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val/loss", self.loss(batch))


class KillInTraining:
    def __init__(self, call: int, number: int = signal.SIGTERM) -> None:
        self.call, self.number, self.calls = call, number, 0

    def on_train_batch_start(self) -> None:
        self.calls += 1
        if self.calls == self.call:
            os.kill(os.getpid(), self.number)


class KillInValidation(KillInTraining):
    on_train_batch_start = None

    def on_validation_batch_start(self) -> None:
        KillInTraining.on_train_batch_start(self)


def loader(samples: int, shuffle: bool = False) -> DataLoader:
    generator = torch.Generator().manual_seed(samples)
    x = torch.randn(samples, 4, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :2].abs()), batch_size=4, shuffle=shuffle)


def fit(folder, *callbacks, module=None, ckpt_path=None, make_loader=loader, num_sanity_val_steps=0, **arguments):
    torch.manual_seed(3 if ckpt_path is None else 77)
    module = module or Noisy(seed=1 if ckpt_path is None else 2)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        val_check_interval=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=num_sanity_val_steps,
        default_root_dir=folder,
        callbacks=[ModelCheckpoint(dirpath=folder, save_top_k=0), *callbacks],
        **arguments,
    )
    trainer.fit(module, make_loader(22, shuffle=True), [make_loader(8), make_loader(12)], ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: signal.Signals(number).name)
def test_signal_ends_the_run_after_the_running_batch(tmp_path, number):
    error, code = SIGNALS[number]
    recorder = Recorder(only=["on_train_batch_end", "on_train_epoch_end", "on_exception", "teardown"])
    before = signal.getsignal(number)
    with pytest.raises(error) as raised:
        fit(tmp_path, recorder, KillInTraining(3, number))
    assert getattr(raised.value, "code", None) == code
    assert recorder.names == ["on_train_batch_end"] * 3 + ["on_exception", "teardown"]
    assert signal.getsignal(number) == before
    assert (tmp_path / "checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize("call", range(1, 13))
def test_run_stopped_in_training_continues_exactly(tmp_path, call):
    whole = fit(tmp_path / "whole")
    with pytest.raises(SystemExit):
        fit(tmp_path, KillInTraining(call))
    resumed = fit(tmp_path, ckpt_path=tmp_path / "checkpoints/last.ckpt")
    assert_same_weights(resumed.module, whole.module)
    assert resumed.callback_metrics == whole.callback_metrics


@pytest.mark.parametrize("call", [1, 2, 3, 5, 6, 10, 15, 30])
def test_run_stopped_in_validation_continues_exactly(tmp_path, call):
    whole = fit(tmp_path / "whole")
    with pytest.raises(SystemExit):
        fit(tmp_path, KillInValidation(call))
    recorder = Recorder(only=["on_validation_batch_end"])
    resumed = fit(tmp_path, recorder, ckpt_path=tmp_path / "checkpoints/last.ckpt")
    assert recorder.count("on_validation_batch_end") == 30 - call
    assert_same_weights(resumed.module, whole.module)
    assert resumed.callback_metrics == whole.callback_metrics


@pytest.mark.parametrize("call", [3, 13])
def test_save_that_waits_for_a_validation_is_made_by_the_run_that_goes_on(tmp_path, call):
    def kept(folder, *callbacks, ckpt_path=None):
        fit(
            folder,
            ModelCheckpoint(folder / "kept", save_top_k=-1, every_n_train_steps=2),
            *callbacks,
            ckpt_path=ckpt_path,
        )

    kept(tmp_path / "whole")
    with pytest.raises(SystemExit):
        kept(tmp_path / "stopped", KillInValidation(call))
    kept(tmp_path / "stopped", ckpt_path=tmp_path / "stopped" / "checkpoints/last.ckpt")
    names = [sorted(path.name for path in (tmp_path / run / "kept").iterdir()) for run in ("whole", "stopped")]
    assert names[0] == names[1]


class Inner:
    """Starts a fit, with another Trainer and module, in one hook of a fit, once it has made three steps."""

    def __init__(self, hook, folder, killer):
        self.folder, self.killer, self.started = folder, killer, False
        setattr(self, hook, self.start)

    def start(self, trainer):
        if trainer.global_step >= 3 and not self.started:
            self.started = True
            # What an inner fit draws is drawn by the outer one, which a run that goes on does not do again.
            with isolate_rng():
                fit(self.folder, *self.killer)


BETWEEN_BATCHES = ["on_train_batch_end", "on_validation_batch_end", "on_validation_end", "on_train_epoch_end"]


@pytest.mark.parametrize("hook", BETWEEN_BATCHES)
@pytest.mark.parametrize("inner_call", [1, 2, 12])
def test_a_signal_in_a_fit_within_a_hook_ends_both_and_both_go_on_exactly(tmp_path, hook, inner_call):
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    whole = fit(tmp_path / "whole", Inner(hook, tmp_path / "inner of whole", ()))
    with pytest.raises(SystemExit):
        fit(outer, Inner(hook, inner, (KillInTraining(inner_call),)))
    resumed = fit(outer, ckpt_path=outer / "checkpoints/last.ckpt")
    assert_same_weights(resumed.module, whole.module)
    if inner_call < 12:
        assert (inner / "checkpoints/last.ckpt").is_file()


@pytest.mark.filterwarnings("ignore:this checkpoint is saved in the middle of a step")
@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_validation_start", "on_fit_start", "on_train_start"])
def test_a_signal_in_a_fit_within_any_hook_saves_the_outer_one(tmp_path, hook):
    class Starts(Inner):
        def start(self, trainer):
            if not self.started:
                self.started = True
                fit(self.folder, *self.killer)

    with pytest.raises(SystemExit) as raised:
        fit(tmp_path / "outer", Starts(hook, tmp_path / "inner", (KillInTraining(2, signal.SIGUSR1),)))
    assert raised.value.code == 138
    assert (tmp_path / "outer" / "checkpoints/last.ckpt").is_file()


def test_a_fit_that_ends_in_a_hook_whatever_it_catches_leaves_the_outer_one_at_its_batch(tmp_path):
    class Catches(Inner):
        def start(self, trainer):
            try:
                super().start(trainer)
            except SystemExit:
                self.caught = True

    whole = fit(tmp_path / "whole")
    catches = Catches("on_train_batch_end", tmp_path / "inner", (KillInTraining(2),))
    recorder = Recorder(only=["on_train_batch_end", "on_exception"])
    with pytest.raises(SystemExit):
        fit(tmp_path / "outer", catches, recorder)
    assert catches.caught
    assert recorder.names == ["on_train_batch_end"] * 3 + ["on_exception"]
    resumed = fit(tmp_path / "outer", ckpt_path=tmp_path / "outer" / "checkpoints/last.ckpt")
    assert_same_weights(resumed.module, whole.module)


def test_a_fit_that_begins_after_the_signal_ends_after_its_first_batch(tmp_path):
    recorder = Recorder(only=["on_train_batch_end"])
    with pytest.raises(SystemExit):
        fit(tmp_path / "outer", KillInTraining(3), Inner("on_train_batch_end", tmp_path / "inner", (recorder,)))
    assert recorder.count("on_train_batch_end") == 1
    assert (tmp_path / "outer" / "checkpoints/last.ckpt").is_file()


def test_a_signal_that_ends_an_evaluation_within_a_hook_ends_the_fit_too(tmp_path):
    class Validates(Inner):
        def start(self, trainer):
            if trainer.global_step < 3:
                return
            with isolate_rng():
                quiet_trainer(callbacks=[KillInValidation(1)]).validate(Noisy(), loader(8), verbose=False)

    whole = fit(tmp_path / "whole")
    with pytest.raises(SystemExit):
        fit(tmp_path / "outer", Validates("on_train_batch_end", None, ()))
    resumed = fit(tmp_path / "outer", ckpt_path=tmp_path / "outer" / "checkpoints/last.ckpt")
    assert_same_weights(resumed.module, whole.module)


def test_a_second_ctrl_c_in_a_fit_within_a_hook_saves_neither(tmp_path):
    class Twice:
        def on_train_batch_start(self):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "outer", Inner("on_train_batch_end", tmp_path / "inner", (Twice(),)), keep_last=False)
    assert not list(tmp_path.rglob("last.ckpt"))


@pytest.mark.skipif(os.name != "posix", reason="no groups of processes")
@pytest.mark.parametrize("kind", [KillInTraining, KillInValidation])
@pytest.mark.parametrize("persistent", [False, True])
def test_signal_to_the_workers_too_is_honoured_as_one_to_the_run(tmp_path, monkeypatch, kind, persistent):
    def with_workers(samples, shuffle=False):
        data = loader(samples).dataset
        return DataLoader(data, 4, shuffle, num_workers=2, persistent_workers=persistent)

    def kill_all(pid, number):
        # What a scheduler does; the group of this process has more members than the run.
        for each in multiprocessing.active_children() if pid == os.getpid() else ():
            kill(each.pid, number)
        kill(pid, number)

    kill = os.kill
    monkeypatch.setattr(os, "kill", kill_all)
    whole = fit(tmp_path / "whole", make_loader=with_workers)
    with pytest.raises(SystemExit):
        fit(tmp_path, kind(3), make_loader=with_workers)
    resumed = fit(tmp_path, ckpt_path=tmp_path / "checkpoints/last.ckpt", make_loader=with_workers)
    assert_same_weights(resumed.module, whole.module)
    assert resumed.callback_metrics == whole.callback_metrics


IN_HOOKS = [
    *("setup", "on_fit_start", "on_sanity_check_start", "on_sanity_check_end", "on_train_start"),
    *("on_train_epoch_start", "on_train_batch_start", "on_before_zero_grad", "on_after_backward"),
    *("on_before_optimizer_step", "on_after_optimizer_step", "on_train_batch_end", "on_log", "on_save_checkpoint"),
    *("on_validation_start", "on_validation_batch_start", "on_validation_batch_end", "on_validation_epoch_end"),
    *("on_validation_end", "on_train_epoch_end", "on_train_end", "on_fit_end", "teardown"),
]


# After a signal in the last step all is done, and the run that goes on says so.
@pytest.mark.filterwarnings("ignore:nothing is left to train:UserWarning")
@pytest.mark.parametrize("newest", [False, True], ids=["first call", "last call"])
@pytest.mark.parametrize("hook", IN_HOOKS)
def test_signal_in_any_hook_surfaces_and_nothing_of_training_is_lost(tmp_path, hook, newest):
    def recorded(folder, *callbacks, **arguments):
        recorder = Recorder()
        try:
            trainer = fit(folder, ModelCheckpoint(folder / "kept", mode="max"), *callbacks, recorder, **arguments)
        except SystemExit as stopped:
            return stopped.code, recorder.names
        return trainer, recorder.names

    whole, names = recorded(tmp_path / "whole", num_sanity_val_steps=1)
    calls = iter(range(1, 1000))
    at = names.count(hook) if newest else 1
    kill = type("Kill", (), {hook: lambda self: (next(calls) == at and os.kill(os.getpid(), signal.SIGTERM)) or None})
    code, first = recorded(tmp_path / "run", kill(), num_sanity_val_steps=1)
    assert code == 143
    resumed, rest = recorded(tmp_path / "run", num_sanity_val_steps=1, ckpt_path="last")
    assert_same_weights(resumed.module, whole.module)
    for name in (
        "on_train_epoch_start",
        "on_train_batch_end",
        "on_after_optimizer_step",
        "on_train_epoch_end",
        "on_log",
    ):
        assert (first + rest).count(name) == names.count(name), name


@pytest.mark.parametrize("method", ["validate", "test", "predict"])
def test_signal_ends_an_evaluation_after_the_running_batch(tmp_path, method):
    batch_end = {"validate": "on_validation_batch_end"}.get(method, f"on_{method}_batch_end")
    recorder = Recorder(only=[batch_end])
    kill = type("Kill", (), {batch_end: lambda self: os.kill(os.getpid(), signal.SIGTERM)})
    trainer = quiet_trainer(callbacks=[recorder, kill()], default_root_dir=tmp_path)
    with pytest.raises(SystemExit):
        getattr(trainer, method)(TinyModule(), loader(12))
    assert recorder.names == [batch_end]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_a_forked_child_of_the_run_dies_of_its_signals_as_without_a_run(tmp_path):
    codes = []

    class Fork:
        def on_train_start(self):
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(0)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    fit(tmp_path, Fork())
    assert codes == [-signal.SIGTERM]


def test_a_signal_that_comes_twice_is_told_once(tmp_path, capsys):
    class Twice:
        def on_train_batch_start(self):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        fit(tmp_path, Twice())
    assert capsys.readouterr().err.count("SIGTERM") == 1


def test_second_ctrl_c_leaves_at_once(tmp_path):
    class Twice:
        def on_train_batch_start(self):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    recorder = Recorder(only=["on_train_batch_end"])
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, Twice(), recorder)
    assert recorder.names == []
    assert not (tmp_path / "checkpoints/last.ckpt").exists()


def test_nothing_is_saved_without_checkpoints(tmp_path):
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        callbacks=[KillInTraining(1)],
    )
    with pytest.raises(SystemExit):
        trainer.fit(Noisy(), loader(8))
    assert list(tmp_path.iterdir()) == []


def test_no_handler_is_installed_outside_the_main_thread(tmp_path):
    seen = []

    class Look:
        def on_train_start(self):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=fit, args=(tmp_path, Look()))
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
