from __future__ import annotations

import pytest
import torch

from trainkit import Trainer
from trainkit.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, ModelSummary, ProgressBar
from trainkit.callbacks.builtin.gradient_clipping import GradientClipping
from trainkit.callbacks.builtin.lr_schedulers import LRSchedulers
from trainkit.errors import ConfigError, PluginError, UnknownArgumentError, UnknownNameError
from trainkit.loggers.csv import CSVLogger
from trainkit.loggers.dummy import DummyLogger
from trainkit.loggers.tensorboard.logger import TensorBoardLogger
from trainkit.profilers import Profiler, SimpleProfiler, TorchProfiler
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.bind_optimizers import make_optimizers
from trainkit.trainer.default_plugins import (
    checkpoints_last,
    default_callbacks,
    fit_plugins,
    follow_lists,
    make_callbacks,
    make_loggers,
    refuse_unknown_arguments,
)


def loud(**arguments):
    """Return the arguments of a Trainer that leaves nothing out."""
    shown = {"enable_checkpointing": True, "enable_progress_bar": True, "enable_model_summary": True}
    return quiet_trainer(**(shown | arguments)).arguments


def kinds(objects):
    return [type(each) for each in objects]


def test_unknown_arguments_are_refused_with_the_nearest_and_all_that_there_are():
    class Owner:
        def __init__(self, positional=1, *, first=1, second=2, **unknown):
            pass

    refuse_unknown_arguments(Owner, {})
    with pytest.raises(UnknownArgumentError, match=r"'secnd'[\s\S]*Owner\(\.\.\.\)[\s\S]*'second'") as caught:
        refuse_unknown_arguments(Owner, {"secnd": 3})
    assert "positional" not in str(caught.value)


# Loggers


def test_by_default_tensorboard_and_csv_files_share_a_folder(tmp_path):
    arguments = loud(default_root_dir=tmp_path)
    for logger in (None, True):
        loggers = make_loggers(logger, arguments.output, arguments.data)
        assert kinds(loggers) == [TensorBoardLogger, CSVLogger]
        assert loggers[0].log_dir == loggers[1].log_dir
        assert loggers[0].log_dir.startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("logger", "arguments", "expected"),
    [
        (False, {}, []),
        (True, {"fast_dev_run": True}, [DummyLogger]),
        (None, {"fast_dev_run": True}, [DummyLogger]),
        (False, {"fast_dev_run": True}, []),
        (None, {"barebones": True}, []),
    ],
)
def test_which_loggers_there_are(logger, arguments, expected):
    given = loud(**arguments) if "barebones" not in arguments else Trainer(accelerator="cpu", **arguments).arguments
    assert kinds(make_loggers(logger, given.output, given.data)) == expected


def test_loggers_that_are_given_write_below_the_root_unless_they_know_better(tmp_path):
    arguments = loud(default_root_dir=tmp_path / "root")
    one, other = CSVLogger(), CSVLogger(save_dir=tmp_path / "own")
    assert make_loggers([one, other], arguments.output, arguments.data) == [one, other]
    assert make_loggers(one, arguments.output, arguments.data) == [one]
    assert one.log_dir.startswith(str(tmp_path / "root"))
    assert other.log_dir.startswith(str(tmp_path / "own"))


@pytest.mark.parametrize("wrong", [3, [CSVLogger(), 3]])
def test_what_is_no_logger_is_refused(wrong):
    arguments = loud()
    with pytest.raises(ConfigError, match="is no logger. Allowed: True, False"):
        make_loggers(wrong, arguments.output, arguments.data)


# Callbacks


@pytest.mark.parametrize(
    ("given", "arguments", "expected"),
    [
        (None, {}, [ProgressBar, ModelSummary, ModelCheckpoint]),
        ([], {"enable_progress_bar": False}, [ModelSummary, ModelCheckpoint]),
        (EarlyStopping("a"), {}, [EarlyStopping, ProgressBar, ModelSummary, ModelCheckpoint]),
        ([ModelCheckpoint(), EarlyStopping("a")], {}, [EarlyStopping, ProgressBar, ModelSummary, ModelCheckpoint]),
        ("lr_monitor", {"fast_dev_run": True}, [LearningRateMonitor, ProgressBar, ModelSummary]),
        (["lr_monitor", ModelSummary()], {}, [LearningRateMonitor, ModelSummary, ProgressBar, ModelCheckpoint]),
        ([ModelCheckpoint()], {"fast_dev_run": True}, [ProgressBar, ModelSummary, ModelCheckpoint]),
    ],
)
def test_the_defaults_are_added_and_checkpoints_come_last(given, arguments, expected):
    chosen = loud(**arguments)
    assert kinds(make_callbacks(given, chosen.output, chosen.data)) == expected


@pytest.mark.parametrize(
    ("callback", "argument"),
    [
        (ProgressBar, "enable_progress_bar"),
        (ModelSummary, "enable_model_summary"),
        (ModelCheckpoint, "enable_checkpointing"),
    ],
)
def test_a_callback_that_is_given_and_switched_off_is_a_contradiction(callback, argument):
    with pytest.raises(ConfigError, match=f"{argument}=False contradicts the {callback.__name__}"):
        default_callbacks(loud(**{argument: False}).output, [callback()])


def test_a_kind_of_a_default_takes_its_place():
    class Mine(ProgressBar):
        pass

    assert kinds(default_callbacks(loud().output, [Mine()])) == [ModelSummary, ModelCheckpoint]


def test_checkpoints_see_the_work_of_all_others_and_keep_their_order():
    first, second = ModelCheckpoint(), ModelCheckpoint()
    one, other = object(), object()
    assert checkpoints_last([first, one, second, other]) == [one, other, first, second]


# Plugins of the core


class WithScheduler(TinyModule):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Clips(TinyModule):
    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        pass


@pytest.mark.parametrize(
    ("kind", "callbacks", "arguments", "expected"),
    [
        (TinyModule, [], {}, []),
        (WithScheduler, [], {}, [LRSchedulers]),
        (TinyModule, [], {"gradient_clip_val": 0.5}, [GradientClipping]),
        (TinyModule, [], {"gradient_clip_val": 0.0}, []),
        (Clips, [], {}, [GradientClipping]),
        (TinyModule, [GradientClipping(1.0)], {"gradient_clip_val": 0.5}, []),
        (WithScheduler, [], {"gradient_clip_val": 0.5}, [LRSchedulers, GradientClipping]),
    ],
)
def test_a_fit_has_the_plugins_that_have_something_to_do(kind, callbacks, arguments, expected):
    module = kind()
    schedulers = make_optimizers(module)[1]
    plugins = fit_plugins(module, schedulers, callbacks, quiet_trainer(**arguments).arguments.optimization)
    assert kinds(plugins) == expected


def test_gradients_are_clipped_as_was_asked_for():
    seen = []

    class Module(TinyModule):
        def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
            seen.append((gradient_clip_val, gradient_clip_algorithm))

    trainer = quiet_trainer(gradient_clip_val=0.5, gradient_clip_algorithm="value")
    trainer.fit(Module(), TinyData(1))
    assert seen == [(0.5, "value")]
    assert trainer.hooks.order("on_clip_gradients") == [], "it leaves with its fit"


# Options


def plugin_names(trainer):
    return [name for name, _ in trainer.hooks.plugins]


def test_rows_of_metrics_callbacks_and_loggers_are_plugins(tmp_path):
    logger = CSVLogger(save_dir=tmp_path)
    trainer = quiet_trainer(callbacks=[EarlyStopping("a")], logger=logger)
    assert sorted(plugin_names(trainer)) == ["CSVLogger", "EarlyStopping", "MetricRows", "RunRecord"]
    assert "RunRecord" not in plugin_names(quiet_trainer(logger=logger, fast_dev_run=True))
    assert plugin_names(quiet_trainer(barebones=True)) == []


def test_plugins_that_are_disabled_are_not_called():
    class Mine:
        called = 0

        def on_train_batch_start(self):
            self.called += 1

    for options, called in ({}, 2), ({"disable": ["Mine", "MetricRows"]}, 0):
        mine = Mine()
        trainer = quiet_trainer(callbacks=[mine], plugins=options)
        trainer.fit(TinyModule(), TinyData(2))
        assert mine.called == called
    assert "MetricRows" not in plugin_names(trainer)


@pytest.mark.parametrize(
    ("arguments", "enabled"),
    [
        ({}, False),
        ({"plugins": {"timing": True}}, True),
        ({"plugins": {"timing": False}}, False),
        ({"profiler": "simple"}, True),
        ({"plugins": None}, False),
    ],
)
def test_time_is_measured_on_request(arguments, enabled):
    assert quiet_trainer(**arguments).hooks.timing.enabled is enabled


@pytest.mark.parametrize("value", ["no", "false", "", [], 2, 0.5, object])
def test_timing_is_true_or_false(value):
    with pytest.raises(ConfigError, match=r"timing="):
        quiet_trainer(plugins={"timing": value})


@pytest.mark.parametrize("names", ["Mine", 3, {"Mine": True}, [3], object(), True])
def test_what_is_disabled_is_a_list_of_names(names):
    with pytest.raises(ConfigError, match="is not usable. Allowed: a list of names of plugins"):
        quiet_trainer(plugins={"disable": names})


def test_none_stands_for_what_is_not_given():
    trainer = quiet_trainer(plugins={"disable": None, "timing": None})
    assert plugin_names(trainer) == plugin_names(quiet_trainer()) and not trainer.hooks.timing.enabled


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ({}, []),
        ({"profiler": "torch"}, [TorchProfiler]),
        ({"profiler": "torch", "plugins": {"timing": True}}, [TorchProfiler, SimpleProfiler]),
        ({"profiler": "simple", "plugins": {"timing": True}}, [SimpleProfiler]),
        ({"profiler": Profiler()}, [Profiler]),
    ],
)
def test_profilers_are_plugins_of_which_the_first_is_the_trainers(arguments, kinds):
    trainer = quiet_trainer(**arguments)
    found = [plugin for _, plugin in trainer.hooks.plugins if isinstance(plugin, Profiler)]
    assert [type(plugin) for plugin in found] == kinds
    assert type(trainer.profiler) is (kinds or [Profiler])[0]


@pytest.mark.parametrize("profiler", [Profiler, 3, True, SimpleProfiler])
def test_what_is_no_profiler_is_refused(profiler):
    with pytest.raises(ConfigError, match="is no profiler"):
        quiet_trainer(profiler=profiler)


@pytest.mark.parametrize("name", ["LRSchedulers", "GradientClipping", "something_that_may_come_later"])
def test_plugins_that_are_to_come_may_be_disabled(name):
    module = WithScheduler()
    trainer = quiet_trainer(gradient_clip_val=1e-9, plugins={"disable": [name]})
    trainer.fit(module, TinyData(1))
    moved = not torch.allclose(module.layer.weight, TinyModule().layer.weight, atol=1e-6)
    assert moved is (name == "GradientClipping")
    assert (trainer.optimizers[0].param_groups[0]["lr"] == 0.1) is (name == "LRSchedulers")


@pytest.mark.parametrize("name", ["early_stopping", "EarlyStopping", "trainkit:early_stopping"])
def test_a_plugin_is_disabled_by_the_name_it_is_written_by_or_by_its_class(name):
    trainer = quiet_trainer(callbacks=["timer", EarlyStopping("val/loss")], plugins={"disable": [name]})
    assert plugin_names(trainer) == ["MetricRows", "Timer"]


@pytest.mark.parametrize("name", ["LRScheduler", "GradientCliping", "Mines", "early_stoping"])
def test_a_name_that_comes_close_to_a_plugin_is_a_mistake(name):
    class Mine:
        pass

    with pytest.raises(UnknownNameError, match=name):
        quiet_trainer(callbacks=[Mine(), EarlyStopping("val/loss")], plugins={"disable": [name]})


@pytest.mark.parametrize("nothing", [None, {}, [], (), False])
def test_no_options_may_be_said_in_several_ways(nothing):
    assert plugin_names(quiet_trainer(plugins=nothing)) == ["MetricRows"]


class Heard:
    """Notes in a list that it was called."""

    def __init__(self, calls, name):
        self.calls, self.name = calls, name

    def on_validation_start(self):
        self.calls.append(self.name)


def test_callbacks_added_to_or_taken_from_the_list_join_or_leave_with_the_next_call():
    calls: list[str] = []
    first, second, third = (Heard(calls, name) for name in ("first", "second", "third"))
    trainer = quiet_trainer(callbacks=[first])

    trainer.callbacks.append(second)
    trainer.validate(TinyModule(), TinyData(1), verbose=False)
    assert calls == ["first", "second"]

    calls.clear()
    trainer.callbacks.remove(first)
    trainer.callbacks.insert(0, third)
    trainer.validate(TinyModule(), TinyData(1), verbose=False)
    assert calls == ["third", "second"]

    calls.clear()
    trainer.callbacks = (first,)
    trainer.validate(TinyModule(), TinyData(1), verbose=False)
    assert calls == ["first"]


def test_callbacks_that_are_added_are_called_ahead_of_those_that_save_and_may_be_names():
    trainer = quiet_trainer(callbacks=[ModelCheckpoint()], enable_checkpointing=True)
    trainer.callbacks.append("lr_monitor")
    trainer.fit(TinyModule(), TinyData(1))
    assert kinds(trainer.callbacks) == [LearningRateMonitor, ModelCheckpoint]


def test_loggers_that_are_added_get_a_folder_and_what_is_none_is_refused(tmp_path):
    trainer = quiet_trainer(default_root_dir=tmp_path, max_steps=1, log_every_n_steps=1)
    trainer.loggers.append(CSVLogger())
    trainer.fit(TinyModule(), TinyData(1))
    assert trainer.loggers[0].log_dir.startswith(str(tmp_path))
    assert list(tmp_path.rglob("metrics.csv"))

    trainer.loggers.append(object())
    with pytest.raises(ConfigError, match="is no logger"):
        trainer.fit(TinyModule(), TinyData(1))


def test_a_list_with_two_of_one_name_changes_nothing():
    calls: list[str] = []
    first = Heard(calls, "first")
    trainer = quiet_trainer(callbacks=[first])
    trainer.callbacks.append(first)
    with pytest.raises(PluginError, match="first"):
        trainer.validate(TinyModule(), TinyData(1))
    trainer.callbacks.pop()
    trainer.validate(TinyModule(), TinyData(1), verbose=False)
    assert calls == ["first"]


def test_who_was_registered_or_unregistered_by_hand_stays_so_when_a_list_changes():
    calls: list[str] = []
    first, second, third = (Heard(calls, name) for name in ("first", "second", "third"))
    trainer = quiet_trainer(callbacks=[first, second])
    trainer.hooks.unregister(first)
    trainer.hooks.register(third)
    trainer.callbacks.append(third)
    trainer.validate(TinyModule(), TinyData(1), verbose=False)
    assert calls == ["second", "third"]


def test_the_lists_are_looked_at_only_where_they_changed():
    trainer = quiet_trainer(callbacks=[Heard([], "first")])
    before = [*trainer.callbacks, *trainer.loggers]
    output = trainer.arguments.output
    assert follow_lists(trainer.hooks, trainer.callbacks, trainer.loggers, before, output) is before


def test_a_list_that_is_changed_while_a_call_runs_has_no_effect_and_says_so():
    class Adds:
        def on_validation_start(self, trainer):
            trainer.callbacks.append(Heard([], "late"))

    adds = Adds()
    trainer = quiet_trainer(callbacks=[adds])
    with pytest.warns(UserWarning, match="trainer.hooks.register"):
        trainer.validate(TinyModule(), TinyData(1), verbose=False)
    assert trainer.callbacks == [adds]
