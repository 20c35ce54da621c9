"""The order in which a run calls hooks, the module's methods, and the plugins within one hook."""

from __future__ import annotations

import torch
from torch.optim.lr_scheduler import StepLR

import trainkit
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class Noting(TinyModule):
    """Writes its own steps into a recorder's list."""

    def __init__(self, recorder, scheduler_interval="step"):
        super().__init__()
        self.save_hyperparameters(ignore=["recorder"])
        self.note = recorder.note
        self.scheduler_interval = scheduler_interval

    def configure_callbacks(self):
        self.note("configure_callbacks")
        return []

    def prepare_data(self):
        self.note("module prepare_data")

    def setup(self, stage):
        self.note("module setup")

    def configure_model(self):
        self.note("configure_model")

    def configure_optimizers(self):
        self.note("configure_optimizers")
        note = self.note

        class NotingSGD(torch.optim.SGD):
            def zero_grad(self, set_to_none=True):
                note("zero_grad")
                super().zero_grad(set_to_none)

            def step(self, closure=None):
                note("step")
                return super().step(closure)

        class NotingStepLR(StepLR):
            def step(self, epoch=None):
                if epoch is None and hasattr(self, "ready"):
                    note("scheduler")
                super().step(epoch)

        optimizer = NotingSGD(self.parameters(), lr=0.1)
        scheduler = NotingStepLR(optimizer, step_size=1)
        scheduler.ready = True
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.scheduler_interval},
        }

    def on_before_batch_transfer(self, batch, dataloader_idx):
        self.note("on_before_batch_transfer")
        return batch

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        self.note("transfer_batch_to_device")
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.note("on_after_batch_transfer")
        return batch

    def training_step(self, batch, batch_idx):
        self.note("training_step")
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.note("validation_step")

    def backward(self, loss):
        self.note("backward")
        loss.backward()


class NotingData(trainkit.DataModule):
    def __init__(self, recorder):
        super().__init__()
        self.note = recorder.note

    def prepare_data(self):
        self.note("prepare_data")

    def setup(self, stage):
        self.note("data setup")

    def train_dataloader(self):
        return TinyData(num_batches=3)

    def val_dataloader(self):
        return TinyData(num_batches=2, seed=1)

    def teardown(self, stage):
        self.note("data teardown")


TRANSFER = ["on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"]

VALIDATION_BATCH = [*TRANSFER, "on_validation_batch_start", "validation_step", "on_validation_batch_end"]

VALIDATION = [
    "on_validation_start",
    "on_validation_epoch_start",
    *VALIDATION_BATCH,
    *VALIDATION_BATCH,
    "on_validation_epoch_end",
    "on_validation_end",
]

BACKWARD = ["on_before_backward", "backward", "on_after_backward"]

UPDATE = ["on_before_optimizer_step", "on_clip_gradients", "step", "on_after_optimizer_step", "scheduler"]

OPENS_GROUP = [
    *TRANSFER,
    "on_train_batch_start",
    "training_step",
    "on_before_zero_grad",
    "zero_grad",
    *BACKWARD,
    "on_train_batch_end",
]

CLOSES_GROUP = [*TRANSFER, "on_train_batch_start", "training_step", *BACKWARD, *UPDATE, "on_train_batch_end"]

IS_A_GROUP = [*OPENS_GROUP[:-1], *UPDATE, "on_train_batch_end"]

EPOCH = [
    "on_train_epoch_start",
    *OPENS_GROUP,
    *CLOSES_GROUP,
    *IS_A_GROUP,
    *VALIDATION,
    "on_train_epoch_end",
]

NOT_IN_THE_ORDER = {"on_log"}


def without_around(names):
    return [name for name in names if "around_" not in name and name not in NOT_IN_THE_ORDER]


def test_two_epochs_with_accumulation_and_validation_call_everything_in_the_promised_order():
    recorder = Recorder()
    trainer = quiet_trainer(
        max_epochs=2, accumulate_grad_batches=2, num_sanity_val_steps=1, callbacks=[recorder], log_every_n_steps=1
    )
    trainer.fit(Noting(recorder), datamodule=NotingData(recorder))

    assert without_around(recorder.names) == [
        "configure_callbacks",
        "prepare_data",
        "module prepare_data",
        "data setup",
        "module setup",
        "setup",
        "configure_model",
        "configure_optimizers",
        "on_fit_start",
        "on_sanity_check_start",
        "on_validation_start",
        "on_validation_epoch_start",
        *VALIDATION_BATCH,
        "on_validation_epoch_end",
        "on_validation_end",
        "on_sanity_check_end",
        "on_train_start",
        *EPOCH,
        *EPOCH,
        "on_train_end",
        "on_fit_end",
        "data teardown",
        "teardown",
    ]


def test_around_hooks_nest_around_what_they_name():
    recorder = Recorder()
    trainer = quiet_trainer(callbacks=[recorder])
    trainer.fit(Noting(recorder), TinyData(num_batches=1), TinyData(num_batches=1))

    names = recorder.names
    for hook, inside in {
        "around_fit": {"on_fit_start", "on_train_start", "on_fit_end"},
        "around_training_step": {"training_step"},
        "around_backward": {"backward"},
        "around_optimizer_step": {"step"},
        "around_evaluation_step": {"validation_step"},
    }.items():
        between = names[names.index(hook) : names.index(f"end of {hook}")]
        assert inside <= set(between), hook
    step = names[names.index("around_training_step") + 1 : names.index("end of around_training_step")]
    assert step == ["training_step"]


def test_epoch_scheduler_steps_before_validation():
    recorder = Recorder()
    trainer = quiet_trainer(callbacks=[recorder])
    trainer.fit(Noting(recorder, scheduler_interval="epoch"), TinyData(num_batches=2), TinyData(num_batches=1))

    names = recorder.names
    assert names.count("scheduler") == 1
    assert names.index("scheduler") < names.index("on_validation_start") < names.index("on_train_epoch_end")
    assert names.index("scheduler") > max(i for i, name in enumerate(names) if name == "step")


def test_validation_in_mid_epoch_comes_between_two_batches():
    recorder = Recorder(
        only=["on_train_batch_end", "on_validation_start", "on_validation_end", "on_train_epoch_end"],
    )
    trainer = quiet_trainer(callbacks=[recorder], val_check_interval=2)
    trainer.fit(TinyModule(), TinyData(num_batches=3), TinyData(num_batches=1))
    assert recorder.names == [
        "on_train_batch_end",
        "on_train_batch_end",
        "on_validation_start",
        "on_validation_end",
        "on_train_batch_end",
        "on_train_epoch_end",
    ]


def test_module_hook_runs_after_modify_and_before_observe_decide_and_persist():
    order = []

    class Module(TinyModule):
        def on_train_epoch_end(self):
            order.append("module")

    class Plugin:
        def __init__(self, stage, label=None):
            self.stage = stage
            self.name = self.label = label or stage

        def on_train_epoch_end(self):
            order.append(self.label)

    plugins = [Plugin(stage) for stage in ("persist", "decide", "observe", "modify", "setup")]
    plugins.append(Plugin("observe", "observe listed later"))
    quiet_trainer(callbacks=plugins).fit(Module(), TinyData())
    assert order == ["setup", "modify", "module", "observe", "observe listed later", "decide", "persist"]


def test_gradients_are_still_there_in_on_train_batch_end():
    recorder = Recorder(
        only=["on_train_batch_end", "on_after_optimizer_step"],
        look=lambda trainer, module: module.layer.weight.grad.abs().sum().item(),
    )
    quiet_trainer(callbacks=[recorder]).fit(TinyModule(), TinyData(num_batches=2))
    assert all(size > 0 for size in recorder.seen("on_train_batch_end"))
    assert recorder.seen("on_train_batch_end") == recorder.seen("on_after_optimizer_step")


def test_model_is_in_eval_mode_during_validation_hooks_and_modes_are_back_before_the_epoch_ends():
    recorder = Recorder(
        only=["on_validation_start", "on_validation_batch_start", "on_validation_end", "on_train_epoch_end"],
        look=lambda trainer, module: module.training,
    )
    quiet_trainer(callbacks=[recorder]).fit(TinyModule(), TinyData(), TinyData(num_batches=1))
    assert [call.seen for call in recorder.calls] == [False, False, False, True]


def test_validate_test_and_predict_call_their_own_hooks_in_order():
    data = TinyData(num_batches=1)
    for stage, word in (("validate", "validation"), ("test", "test"), ("predict", "predict")):
        recorder = Recorder()
        getattr(quiet_trainer(callbacks=[recorder]), stage)(TinyModule(), data)
        assert without_around(recorder.names) == [
            "setup",
            f"on_{word}_start",
            f"on_{word}_epoch_start",
            f"on_{word}_batch_start",
            f"on_{word}_batch_end",
            f"on_{word}_epoch_end",
            f"on_{word}_end",
            "teardown",
        ], stage
        assert [arguments["stage"] for arguments in recorder.arguments("setup")] == [stage]


def test_batch_indices_count_from_zero_in_each_epoch():
    recorder = Recorder(only=["on_train_batch_start", "on_train_batch_end"])
    quiet_trainer(max_epochs=2, callbacks=[recorder]).fit(TinyModule(), TinyData(num_batches=2))
    for hook in ("on_train_batch_start", "on_train_batch_end"):
        assert [arguments["batch_idx"] for arguments in recorder.arguments(hook)] == [0, 1, 0, 1]


def test_counters_advance_before_the_hook_that_reports_them():
    recorder = Recorder(
        only=["on_train_batch_start", "on_after_optimizer_step", "on_train_batch_end", "on_train_epoch_end"],
        look=lambda trainer, module: (trainer.current_epoch, trainer.global_step),
    )
    quiet_trainer(max_epochs=2, callbacks=[recorder]).fit(TinyModule(), TinyData(num_batches=2))
    assert recorder.seen("on_train_batch_start") == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert recorder.seen("on_after_optimizer_step") == [(0, 1), (0, 2), (1, 3), (1, 4)]
    assert recorder.seen("on_train_batch_end") == [(0, 1), (0, 2), (1, 3), (1, 4)]
    assert recorder.seen("on_train_epoch_end") == [(0, 2), (1, 4)]
