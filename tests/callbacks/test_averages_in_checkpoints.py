"""Wherever a run with averaged weights is saved, live weights and average are both right, and however it is loaded."""

from __future__ import annotations

import signal
import warnings

import pytest
import torch
from torch import nn

from trainkit.callbacks import (
    Callback,
    EMAWeightAveraging,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from trainkit.storage.files import read_checkpoint
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer

MAKE = {
    "mean": lambda: [WeightAveraging()],
    "exponential": lambda: [EMAWeightAveraging(decay=0.5, use_buffers=False)],
    "buffers too": lambda: [EMAWeightAveraging(decay=0.5)],
    "two": lambda: [EMAWeightAveraging(decay=0.9), WeightAveraging()],
    "of epochs": lambda: [StochasticWeightAveraging(0.02, 1, annealing_epochs=2)],
    "both kinds": lambda: [StochasticWeightAveraging(0.02, 1), EMAWeightAveraging(decay=0.5)],
}
AVERAGES_STEPS = ["mean", "exponential", "buffers too", "two"]
PLACES = [
    "on_train_batch_end",
    "on_validation_batch_end",
    "on_validation_epoch_end",
    "on_validation_end",
    "on_train_epoch_end",
]


class Module(TinyModule):
    """With BatchNorm, tied weights, and a frozen layer."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.build()

    def build(self):
        self.norm = nn.BatchNorm1d(4)
        self.first, self.second, self.fixed = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.fixed.requires_grad_(False)

    def forward(self, x):
        return self.layer(self.fixed(self.second(self.first(self.norm(x)))))

    def configure_optimizers(self):
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trained, lr=0.05, momentum=0.9)


NAMES = {"norm": "scaled", "first": "one", "second": "two", "fixed": "three"}


class Renamed(Module):
    """The same with other names, and biases of 5 where it is loaded."""

    def build(self):
        super().build()
        for old, new in NAMES.items():
            setattr(self, new, getattr(self, old))
            delattr(self, old)

    def forward(self, x):
        return self.layer(self.three(self.two(self.one(self.scaled(x)))))

    def on_load_checkpoint(self, checkpoint):
        weights = checkpoint["state_dict"]
        for name in list(weights):
            owner, _, rest = name.partition(".")
            if owner in NAMES:
                weights[f"{NAMES[owner]}.{rest}"] = weights.pop(name)
        weights["one.bias"].fill_(5.0)


class Saves(Callback):
    """Saves in one hook, when ``global_step`` is 4."""

    stage = "persist"

    def __init__(self, hook, path):
        self.path = path
        setattr(self, hook, self.save)

    def save(self, trainer):
        if trainer.global_step == 4 and not trainer.sanity_checking:
            trainer.save_checkpoint(self.path)


def fit(module, callbacks, ckpt_path=None, **arguments):
    trainer = quiet_trainer(**({"max_epochs": 3, "callbacks": callbacks} | arguments))
    trainer.fit(module, TinyData(2), TinyData(2), ckpt_path=ckpt_path)
    return module


def saved(name, place, folder, module=Module, **arguments):
    """Return a whole run, and the path of a checkpoint that was saved in it."""
    path = folder / "saved.ckpt"
    return fit(module(), [*MAKE[name](), Saves(place, path)], **arguments), path


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", MAKE)
def test_a_run_goes_on_from_every_place_as_if_it_had_not_stopped(name, place, tmp_path):
    whole, path = saved(name, place, tmp_path)
    assert_same_weights(fit(Module(), MAKE[name](), path), whole)


@pytest.mark.filterwarnings("ignore:nothing is left to train")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", MAKE)
def test_every_way_to_load_gives_the_average(name, place, tmp_path):
    _, path = saved(name, place, tmp_path)
    expected = Module.load_from_checkpoint(path)
    for way in ("validate", "test", "predict"):
        module = Module()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(quiet_trainer(callbacks=MAKE[name]()), way)(module, TinyData(2), ckpt_path=path)
        assert_same_weights(module, expected)
    if name in AVERAGES_STEPS:
        ended = fit(Module(), MAKE[name](), path, max_steps=4, max_epochs=None)
        assert_same_weights(ended, expected)


class Looks(Callback):
    """Notes the weights that a fit begins with."""

    def on_fit_start(self, module):
        self.newest = {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.filterwarnings("ignore:nothing is left to train")
@pytest.mark.parametrize("name", AVERAGES_STEPS)
def test_what_a_module_does_when_loaded_reaches_newest_weights_and_average(name, tmp_path):
    _, path = saved(name, "on_validation_end", tmp_path)
    looks = Looks()
    ended = fit(Renamed(), [*MAKE[name](), looks], path, max_steps=4, max_epochs=None)
    assert (looks.newest["one.bias"] == 5).all()
    assert_same_weights(ended, Renamed.load_from_checkpoint(path))
    evaluated = Renamed()
    quiet_trainer(callbacks=MAKE[name]()).validate(evaluated, TinyData(2), ckpt_path=path, verbose=False)
    assert_same_weights(ended, evaluated)
    file = read_checkpoint(path)
    assert torch.equal(looks.newest["layer.weight"], file["current_model_state"]["layer.weight"])
    assert not torch.equal(ended.layer.weight, looks.newest["layer.weight"])


@pytest.mark.parametrize("name", MAKE)
def test_every_average_is_renamed(name, tmp_path):
    _, path = saved(name, "on_train_epoch_end", tmp_path)
    kept = tmp_path / "again.ckpt"
    fit(Renamed(), [*MAKE[name](), Saves("on_train_start", kept)], path, max_epochs=3)
    before, after = read_checkpoint(path)["callbacks"], read_checkpoint(kept)["callbacks"]
    averages = [key for key in before if before[key].get("average")]
    assert averages
    for key in averages:
        average = after[key]["average"]
        assert (average["one.bias"] == 5).all()
        assert torch.equal(average["two.weight"], before[key]["average"]["second.weight"])
        assert "first.weight" not in average


def test_a_frozen_layer_that_is_renamed_stays_frozen(tmp_path):
    _, path = saved("mean", "on_train_epoch_end", tmp_path)
    module = Renamed()
    fit(module, [WeightAveraging()], path, max_epochs=3)
    assert [name for name, each in module.named_parameters() if not each.requires_grad] == [
        "three.weight",
        "three.bias",
    ]


def test_a_callback_that_changes_weights_on_loading_reaches_all_too(tmp_path):
    class Doubles(Callback):
        def on_load_checkpoint(self, checkpoint):
            checkpoint["state_dict"]["layer.bias"] *= 2
            checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] *= 2

    _, path = saved("mean", "on_validation_end", tmp_path)
    kept = tmp_path / "again.ckpt"
    fit(Module(), [WeightAveraging(), Doubles(), Saves("on_train_start", kept)], path)
    before, after = read_checkpoint(path), read_checkpoint(kept)
    for key in ("state_dict", "current_model_state"):
        assert torch.equal(after[key]["layer.bias"], 2 * before[key]["layer.bias"])
    assert after["optimizer_states"][0]["param_groups"][0]["lr"] == 0.1, "the rest is changed once"


def test_doubles_of_an_average_stay_doubles(tmp_path):
    whole, path = saved("exponential", "on_train_batch_end", tmp_path, precision="64-true")
    assert whole.layer.weight.dtype is torch.float64
    assert_same_weights(fit(Module(), MAKE["exponential"](), path, precision="64-true"), whole)


def test_an_average_that_is_new_when_a_run_goes_on_begins_there(tmp_path):
    path = tmp_path / "saved.ckpt"
    fit(Module(), [Saves("on_train_epoch_end", path)])
    looks = Looks()
    with pytest.warns(UserWarning, match="nothing is left"):
        ended = fit(Module(), [WeightAveraging(), looks], path, max_epochs=2)
    assert torch.equal(ended.layer.weight, looks.newest["layer.weight"])


def test_an_average_that_is_gone_when_a_run_goes_on_leaves_the_newest_weights_and_is_told(tmp_path):
    _, path = saved("exponential", "on_validation_end", tmp_path)
    plain = fit(Module(), [])
    with pytest.warns(UserWarning, match="that of EMAWeightAveraging, which is not among the callbacks"):
        assert_same_weights(fit(Module(), [], path), plain)


def test_a_file_that_keeps_the_average_as_earlier_versions_and_lightning_do_is_continued(tmp_path):
    whole, path = saved("mean", "on_validation_end", tmp_path)
    checkpoint = read_checkpoint(path)
    for name in ("average", "n_averaged"):
        del checkpoint["callbacks"]["WeightAveraging"][name]
    torch.save(checkpoint, path)
    assert_same_weights(fit(Module(), MAKE["mean"](), path), whole)


def test_the_average_is_in_the_file_once(tmp_path):
    for name, place in (("mean", "on_train_batch_end"), ("mean", "on_validation_end")):
        _, path = saved(name, place, tmp_path)
        checkpoint = read_checkpoint(path)
        of_callback = checkpoint["callbacks"]["WeightAveraging"]["average"]
        for key, value in checkpoint["state_dict"].items():
            assert value.data_ptr() == of_callback[key].data_ptr()


def test_weights_alone_are_the_average(tmp_path):
    class SavesWeights(Saves):
        def save(self, trainer):
            trainer.save_checkpoint(self.path, weights_only=True)

    path = tmp_path / "weights.ckpt"
    ended = fit(Module(), [WeightAveraging(), SavesWeights("on_train_epoch_end", path)])
    assert_same_weights(Module.load_from_checkpoint(path), ended)
    assert "current_model_state" not in read_checkpoint(path)


@pytest.mark.parametrize("name", AVERAGES_STEPS)
def test_a_run_that_is_over_goes_on_with_its_newest_weights(name, tmp_path):
    whole = fit(Module(), MAKE[name](), max_epochs=3)
    path, by_hand = tmp_path / "saved.ckpt", tmp_path / "by_hand.ckpt"
    trainer = quiet_trainer(max_epochs=2, callbacks=[*MAKE[name](), Saves("on_train_end", path)])
    module = Module()
    trainer.fit(module, TinyData(2), TinyData(2))
    trainer.validate(module, TinyData(2), verbose=False)
    trainer.save_checkpoint(by_hand)
    for file in (path, by_hand):
        assert_same_weights(fit(Module(), MAKE[name](), file), whole)
        assert_same_weights(Module.load_from_checkpoint(file), module)


@pytest.mark.parametrize("name", AVERAGES_STEPS)
def test_a_signal_in_a_validation_leaves_the_newest_weights_and_a_whole_checkpoint(name, tmp_path):
    class Signals(Callback):
        def on_validation_batch_end(self, trainer, module, batch_idx):
            if trainer.global_step == 4 and batch_idx == 0:
                signal.raise_signal(signal.SIGTERM)

        def on_train_batch_end(self, module):
            self.newest = module.layer.weight.detach().clone()

    whole = fit(Module(), MAKE[name]())
    signals, module = Signals(), Module()
    keeps = ModelCheckpoint(tmp_path)
    with pytest.raises(SystemExit):
        fit(module, [*MAKE[name](), signals, keeps], enable_checkpointing=True, default_root_dir=tmp_path)
    assert torch.equal(module.layer.weight, signals.newest)
    (path,) = tmp_path.rglob("last.ckpt")
    assert_same_weights(fit(Module(), MAKE[name](), path), whole)


def test_an_average_that_does_not_fit_names_what_differs(tmp_path):
    class Forgets(Renamed):
        def on_load_checkpoint(self, checkpoint):
            if not torch.equal(checkpoint["state_dict"]["layer.bias"], newest["layer.bias"]):
                return
            super().on_load_checkpoint(checkpoint)

    _, path = saved("mean", "on_validation_end", tmp_path)
    newest = read_checkpoint(path)["current_model_state"]
    with pytest.raises(RuntimeError, match=r"the average of the checkpoint(.|\n)*missing"):
        fit(Forgets(), [WeightAveraging()], path)


@pytest.mark.parametrize("stage", ["setup", "modify", "observe", "decide", "persist"])
def test_each_hook_of_a_validation_sees_the_average(stage):
    hooks = [
        "on_validation_start",
        "on_validation_epoch_start",
        "on_validation_batch_start",
        "on_validation_batch_end",
        "on_validation_epoch_end",
        "on_validation_end",
    ]
    seen = {}

    class Sees(Callback):
        def __init__(self):
            for hook in hooks:
                setattr(self, hook, lambda module, hook=hook: seen.setdefault(hook, module.layer.weight.clone()))

        def on_train_batch_end(self, module):
            trained.append(module.layer.weight.detach().clone())

        def on_train_epoch_end(self, module):
            self.after = module.layer.weight.detach().clone()

    class Own(Module):
        def on_validation_epoch_end(self):
            seen["own epoch end"] = self.layer.weight.clone()

        def on_validation_end(self):
            seen["own end"] = self.layer.weight.clone()

    trained, sees = [], Sees()
    sees.stage = stage
    quiet_trainer(callbacks=[sees, WeightAveraging()]).fit(Own(), TinyData(2), TinyData(2))
    assert len(seen) == len(hooks) + 2
    for hook, weight in seen.items():
        assert torch.allclose(weight, torch.stack(trained).mean(0), atol=1e-6), hook
    assert torch.equal(sees.after, trained[-1])
