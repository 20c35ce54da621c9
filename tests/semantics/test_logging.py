"""Where a logged value goes, under which name, and how an epoch's value is made."""

from __future__ import annotations

import warnings

import pytest
import torch

from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class Logs(TinyModule):
    """Logs ``value(batch_idx)`` in the training step, with the given options."""

    def __init__(self, value=float, **options):
        super().__init__()
        self.value = value
        self.options = options

    def training_step(self, batch, batch_idx):
        self.log("a", self.value(batch_idx), **self.options)
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        pass


class LogsInValidation(TinyModule):
    """Logs its own size-weighted value in the validation step only."""

    def __init__(self, value=float, **options):
        super().__init__()
        self.value = value
        self.options = options

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("a", self.value(batch_idx), **self.options)


def rows_of(module, *, num_batches=3, val=None, **arguments):
    """Fit and return the rows that loggers saw, as ``(step, metrics)``, and the trainer."""
    recorder = Recorder(only=["on_log"])
    trainer = quiet_trainer(callbacks=[recorder], **({"log_every_n_steps": 1} | arguments))
    trainer.fit(module, TinyData(num_batches), val)
    return [(call["step"], call["metrics"]) for call in recorder.arguments("on_log")], trainer


def values_of(rows, name):
    return [(step, metrics[name]) for step, metrics in rows if name in metrics]


def test_training_step_logs_each_step_by_default():
    rows, trainer = rows_of(Logs())
    assert values_of(rows, "a") == [(1, 0.0), (2, 1.0), (3, 2.0)]
    assert trainer.callback_metrics["a"] == 2.0
    assert set(trainer.callback_metrics) == {"a"}


def test_train_batch_hooks_log_each_step_and_epoch_hooks_log_the_epoch_by_default():
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            return self.loss(batch)

        def on_train_batch_start(self, batch, batch_idx):
            self.log("start", batch_idx)

        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.log("end", batch_idx)

        def on_train_epoch_end(self):
            self.log("end of epoch", 7.0)

    rows, trainer = rows_of(Module(), max_epochs=2)
    assert [value for _, value in values_of(rows, "start")] == [0.0, 1.0, 2.0] * 2
    assert [value for _, value in values_of(rows, "end")] == [0.0, 1.0, 2.0] * 2
    assert values_of(rows, "end of epoch") == [(3, 7.0), (6, 7.0)]
    assert trainer.callback_metrics["end of epoch"] == 7.0


def test_validation_step_logs_the_epoch_by_default():
    rows, trainer = rows_of(LogsInValidation(), val=TinyData(3))
    assert values_of(rows, "a") == [(3, 1.0)]
    assert trainer.callback_metrics["a"] == 1.0


def test_on_step_with_on_epoch_gives_both_under_suffixes_and_the_plain_name_to_callbacks():
    rows, trainer = rows_of(Logs(on_step=True, on_epoch=True))
    assert values_of(rows, "a_step") == [(1, 0.0), (2, 1.0), (3, 2.0)]
    assert values_of(rows, "a_epoch") == [(3, 1.0)]
    assert values_of(rows, "a") == []
    assert {name: value.item() for name, value in trainer.callback_metrics.items()} == {
        "a": 1.0,
        "a_step": 2.0,
        "a_epoch": 1.0,
    }


def test_on_epoch_alone_keeps_the_plain_name():
    rows, trainer = rows_of(Logs(on_step=False, on_epoch=True))
    assert values_of(rows, "a") == [(3, 1.0)]
    assert set(trainer.callback_metrics) == {"a"}


def test_logger_false_keeps_a_value_from_loggers_but_not_from_callbacks():
    rows, trainer = rows_of(Logs(logger=False, on_epoch=True))
    assert not [metrics for _, metrics in rows if any(name.startswith("a") for name in metrics)]
    assert trainer.callback_metrics["a"] == 1.0


def test_prog_bar_true_puts_a_value_on_the_bar_only_where_asked():
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log("shown", 1.0, prog_bar=True)
            self.log("hidden", 1.0)
            return self.loss(batch)

    _, trainer = rows_of(Module())
    assert "shown" in trainer.progress_bar_metrics
    assert "hidden" not in trainer.progress_bar_metrics


def test_log_dict_logs_every_entry_with_the_same_options():
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log_dict({"a": batch_idx, "b": 10 * batch_idx}, on_step=False, on_epoch=True)
            return self.loss(batch)

    rows, _ = rows_of(Module())
    assert values_of(rows, "a") == [(3, 1.0)]
    assert values_of(rows, "b") == [(3, 10.0)]


def test_epoch_mean_equals_the_mean_over_all_samples_with_a_ragged_last_batch():
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            loss = self.loss(batch)
            self.log("train/loss", loss, on_step=False, on_epoch=True)
            return loss

    data = TinyData(num_batches=4, batch_size=5, last_batch_size=2)
    module = Module(lr=0.0)
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    expected = module.loss((x, y)).item()
    trainer = quiet_trainer()
    trainer.fit(module, data, data)
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(expected, abs=1e-6)
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(expected, abs=1e-6)
    unweighted = sum(module.loss(batch).item() for batch in data) / 4
    assert unweighted != pytest.approx(expected, abs=1e-6)


def test_batch_size_overrides_the_weight():
    class Module(LogsInValidation):
        def validation_step(self, batch, batch_idx):
            self.log("a", float(batch_idx), batch_size=[1, 3][batch_idx])

    _, trainer = rows_of(Module(), val=TinyData(2))
    assert trainer.callback_metrics["a"] == 0.75


class Opaque:
    """A batch in which no size can be found."""

    def __init__(self, batch):
        self.batch = batch


@pytest.mark.parametrize("sizes", [(3, 1)])
def test_batch_of_doubtful_size_weighs_one_and_warns_once(sizes):
    class Module(LogsInValidation):
        def validation_step(self, batch, batch_idx):
            self.log("a", float(batch_idx))
            self.log("b", float(batch_idx))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, trainer = rows_of(Module(), val=[Opaque(torch.zeros(size)) for size in sizes])
    assert trainer.callback_metrics["a"] == 0.5
    assert len([warning for warning in caught if "batch_size" in str(warning.message)]) == 1


def test_batch_whose_tensors_disagree_on_the_size_weighs_one_and_warns():
    with pytest.warns(UserWarning, match="batch_size"):
        _, trainer = rows_of(
            LogsInValidation(), val=[(torch.zeros(3, 4), torch.zeros(5)), (torch.zeros(1, 4), torch.zeros(1))]
        )
    assert trainer.callback_metrics["a"] == 0.5


@pytest.mark.parametrize(("reduce_fx", "expected"), [("mean", 1.0), ("sum", 3.0), ("min", 0.0), ("max", 2.0)])
def test_reduce_fx_makes_the_epoch_value(reduce_fx, expected):
    _, trainer = rows_of(LogsInValidation(reduce_fx=reduce_fx), val=TinyData(3))
    assert trainer.callback_metrics["a"] == expected


def test_torchmetrics_object_is_computed_at_the_end_of_the_epoch_and_reset():
    torchmetrics = pytest.importorskip("torchmetrics")

    class Module(TinyModule):
        def __init__(self):
            super().__init__()
            self.largest = torchmetrics.MaxMetric()

        def training_step(self, batch, batch_idx):
            return self.loss(batch)

        def validation_step(self, batch, batch_idx):
            self.largest.update(10.0 * (1 - self.current_epoch) + batch_idx)
            self.log("largest", self.largest)

    recorder = Recorder(
        only=["on_train_epoch_end"], look=lambda trainer, module: trainer.callback_metrics["largest"].item()
    )
    trainer = quiet_trainer(max_epochs=2, callbacks=[recorder])
    trainer.fit(Module(), TinyData(2), TinyData(3))
    assert recorder.seen("on_train_epoch_end") == [12.0, 2.0]


def test_epoch_values_start_afresh_in_each_epoch():
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log("a", float(self.current_epoch), on_step=False, on_epoch=True)
            return self.loss(batch)

    rows, _ = rows_of(Module(), max_epochs=3)
    assert values_of(rows, "a") == [(3, 0.0), (6, 1.0), (9, 2.0)]


def test_x_axis_of_every_row_is_global_step():
    recorder = Recorder(only=["on_log"], look=lambda trainer, module: trainer.global_step)
    trainer = quiet_trainer(
        max_epochs=2, callbacks=[recorder], log_every_n_steps=1, accumulate_grad_batches=2, val_check_interval=2
    )
    trainer.fit(TinyModule(), TinyData(4), TinyData(1))
    steps = [arguments["step"] for arguments in recorder.arguments("on_log")]
    assert steps == recorder.seen("on_log")
    losses = [a["step"] for a in recorder.arguments("on_log") if "train/loss" in a["metrics"]]
    assert losses == [1, 2, 3, 4]
    validations = [a["step"] for a in recorder.arguments("on_log") if "val/loss" in a["metrics"]]
    assert validations == [1, 2, 3, 4]


def test_rows_are_written_every_n_steps_and_at_the_end_of_an_epoch():
    class Module(Logs):
        def on_train_epoch_end(self):
            self.log("end of epoch", 1.0)

    rows, _ = rows_of(Module(), num_batches=5, max_epochs=2, log_every_n_steps=2)
    assert [step for step, _ in values_of(rows, "a")] == [2, 4, 6, 8, 10]
    assert [step for step, _ in values_of(rows, "end of epoch")] == [5, 10]


def test_rows_say_their_epoch_unless_the_user_logs_one():
    rows, _ = rows_of(Logs(), max_epochs=2, log_every_n_steps=3)
    assert set(values_of(rows, "epoch")) == {(3, 0), (6, 1)}

    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log("epoch", 7.0)
            return self.loss(batch)

    rows, _ = rows_of(Module(), num_batches=2)
    assert values_of(rows, "epoch")[:2] == [(1, 7.0), (2, 7.0)]


def test_callback_metrics_hold_the_newest_value_in_every_hook_after_the_log():
    recorder = Recorder(only=["on_train_batch_end"], look=lambda trainer, module: trainer.callback_metrics["a"].item())
    trainer = quiet_trainer(callbacks=[recorder], log_every_n_steps=50)
    trainer.fit(Logs(), TinyData(3))
    assert recorder.seen("on_train_batch_end") == [0.0, 1.0, 2.0]


def test_logged_tensor_is_copied():
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            value = torch.tensor(float(batch_idx))
            self.log("a", value, on_step=True, on_epoch=True)
            value.add_(100.0)
            return self.loss(batch)

    rows, trainer = rows_of(Module())
    assert values_of(rows, "a_step") == [(1, 0.0), (2, 1.0), (3, 2.0)]
    assert trainer.callback_metrics["a_epoch"] == 1.0


def test_validation_in_mid_epoch_leaves_the_training_epoch_value_alone():
    class Module(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log("a", float(batch_idx), on_step=False, on_epoch=True)
            return self.loss(batch)

    rows, _ = rows_of(Module(), num_batches=5, val=TinyData(2), val_check_interval=2)
    assert values_of(rows, "a") == [(5, 2.0)]


def test_validate_and_test_return_what_was_logged():
    trainer = quiet_trainer()
    module, data = TinyModule(), TinyData(2)
    expected = (module.loss(data[0]).item() + module.loss(data[1]).item()) / 2
    assert trainer.validate(module, data) == [{"val/loss": pytest.approx(expected)}]
    assert trainer.test(module, data) == [{"test/loss": pytest.approx(expected)}]


def test_what_is_logged_in_on_train_start_belongs_to_the_first_epoch():
    class Module(TinyModule):
        def on_train_start(self):
            self.log("start", 3.0)

    rows, trainer = rows_of(Module(), max_epochs=2)
    assert values_of(rows, "start") == [(3, 3.0)]
    assert trainer.callback_metrics["start"] == 3.0
