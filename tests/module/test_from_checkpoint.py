from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from trainkit.compat.lightning import LightningModule
from trainkit.data import DataModule
from trainkit.errors import CheckpointError, UnknownNameError
from trainkit.module import TrainModule
from trainkit.module.from_checkpoint import (
    call_with,
    constructor_arguments,
    load_weights,
    read_hparams,
    require_weights,
)
from trainkit.module.hparams import store_hparams


class Plain(TrainModule):
    def __init__(self, width, *, net=None, config=None):
        super().__init__()
        self.save_hyperparameters()


class TakesOne(TrainModule):
    def __init__(self, hparams, scale=1.0):
        super().__init__()
        self.save_hyperparameters(hparams)


class PassesOn(Plain):
    def __init__(self, depth, **rest):
        super().__init__(depth * 2, **rest)


class FixesWidth(Plain):
    def __init__(self, net=None):
        super().__init__(7, net=net)


def checkpoint_of(module):
    checkpoint = {}
    store_hparams(module, checkpoint)
    return checkpoint


def arguments(module, cls=None, **overrides):
    """The arguments with which ``cls`` is built from the checkpoint of ``module``."""
    return constructor_arguments(cls or type(module), checkpoint_of(module), overrides)


def test_saved_values_are_passed_and_overrides_go_first():
    assert arguments(Plain(3)) == {"width": 3, "net": None, "config": None}
    assert arguments(Plain(3), width=4)["width"] == 4


def test_nested_values_can_be_read_by_attribute_as_before():
    config = arguments(Plain(3, config=Namespace(model=Namespace(size=[Namespace(x=1)]))))["config"]
    assert config.model.size[0].x == 1
    assert config == Namespace(model=Namespace(size=[Namespace(x=1)]))
    config = arguments(Plain(3, config=OmegaConf.create({"model": {"size": [{"x": 1}]}})))["config"]
    assert config.model.size[0].x == 1


def test_a_class_that_takes_one_object_gets_one():
    built = arguments(TakesOne(Namespace(lr=0.1, width=3)), lr=0.5, scale=2.0)
    assert built == {"hparams": Namespace(lr=0.5, width=3), "scale": 2.0}
    built = arguments(TakesOne(OmegaConf.create({"lr": 0.1})))
    assert built["hparams"].lr == 0.1
    assert type(arguments(TakesOne({"lr": 0.1}))["hparams"]) is dict
    assert arguments(TakesOne({"lr": 0.1}), hparams={"lr": 1})["hparams"] == {"lr": 1}


def test_a_class_that_passes_arguments_on_gets_them_all():
    assert arguments(PassesOn(2, config=1)) == {"depth": 2, "width": 4, "net": None, "config": 1}


def test_what_a_subclass_fixed_is_dropped():
    assert arguments(FixesWidth()) == {"net": None}


def test_a_class_without_a_constructor_takes_nothing():
    assert constructor_arguments(TrainModule, {}, {}) == {}
    with pytest.raises(UnknownNameError, match="'width'"):
        constructor_arguments(TrainModule, {}, {"width": 3})


def test_an_argument_that_is_neither_saved_nor_given_is_demanded():
    with pytest.raises(CheckpointError, match=r"(?s)does not hold: width.*load_from_checkpoint\(path, width=\.\.\.\)"):
        constructor_arguments(Plain, {}, {})
    assert constructor_arguments(Plain, {}, {"width": 3}) == {"width": 3}


def test_what_could_not_be_stored_is_demanded_even_if_it_has_a_default():
    module = Plain(3, net=nn.Linear(1, 1))
    with pytest.raises(CheckpointError, match=r"(?s)does not hold: net\..*saved        width, config.*net=\.\.\."):
        arguments(module)
    assert arguments(module, net=None) == {"width": 3, "net": None, "config": None}
    with pytest.raises(CheckpointError, match="does not hold: net"):
        arguments(TakesOne({"net": nn.ReLU, "lr": 1}))
    assert arguments(TakesOne({"net": nn.ReLU, "lr": 1}), net=1) == {"hparams": {"lr": 1, "net": 1}}


def test_it_is_not_demanded_of_a_class_that_does_not_take_it():
    class NoNet(TrainModule):
        def __init__(self, width):
            super().__init__()

    assert arguments(Plain(3, net=nn.ReLU()), cls=NoNet) == {"width": 3}


def test_a_misspelt_override_is_an_error_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match=r"(?s)'widht'.*Plain.load_from_checkpoint.*did you mean 'width'"):
        arguments(Plain(3), widht=4)


# Weights


def test_weights_that_fit_are_loaded():
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    load_weights(target, source.state_dict(), strict=True, source="a.ckpt")
    assert torch.equal(source.weight, target.weight)


def test_weights_of_another_model_are_described_briefly():
    source = nn.ModuleDict({f"layer{i}": nn.Linear(2, 2) for i in range(9)}).state_dict()
    target = nn.ModuleDict({"layer0": nn.Linear(3, 2), "head": nn.Linear(1, 1)})
    with pytest.raises(CheckpointError) as caught:
        load_weights(target, source, strict=True, source="a.ckpt")
    assert str(caught.value).splitlines() == [
        "the weights in a.ckpt are not those of ModuleDict.",
        "    missing      head.weight, head.bias",
        "    unexpected   layer1.weight, layer1.bias, layer2.weight, layer2.bias, layer3.weight, and 11 more",
        "    other shape  layer0.weight (2, 2) instead of (2, 3)",
        "    to do        build the module with the arguments it was trained with",
    ]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("rename", "to_do"),
    [
        (lambda name: f"model.{name}", "remove 'model.' from the names"),
        (lambda name: name.removeprefix("net."), "put 'net.' before the names"),
        (lambda name: name.replace(".", "/"), "no name matches"),
    ],
    ids=["with a prefix", "without one", "other names"],
)
def test_weights_of_which_no_name_matches_are_never_left_out(rename, to_do, strict):
    target = nn.ModuleDict({"net": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))})
    weights = {rename(name): value for name, value in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=f"(?s)a.ckpt are not those of ModuleDict.*to do  *{to_do}") as caught:
        load_weights(target, weights, strict=strict, source="a.ckpt")
    assert "strict=False" not in str(caught.value)


def test_weights_that_fit_in_part_are_told():
    source = nn.ModuleDict({"net": nn.Linear(2, 2), "old_head": nn.Linear(2, 2)}).state_dict()
    target = nn.ModuleDict({"net": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    with pytest.warns(UserWarning, match=r"(?s)missing +head.weight, head.bias\n +unexpected +old_head.weight"):
        load_weights(target, source, strict=False, source="a.ckpt")
    assert torch.equal(target.net.weight, source["net.weight"])


def test_additional_weights_or_fewer_are_no_more_than_was_asked_for(capsys):
    source = nn.ModuleDict({"net": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    net = nn.ModuleDict({"net": nn.Linear(2, 2)})
    load_weights(net, source.state_dict(), strict=False, source="a.ckpt")
    load_weights(source, nn.ModuleDict({"net": net.net}).state_dict(), strict=False, source="a.ckpt")
    assert capsys.readouterr().err.splitlines() == [
        "trainkit: of a.ckpt 2 tensors (head.weight, head.bias) are not in ModuleDict and left out",
        "trainkit: of ModuleDict 2 tensors (head.weight, head.bias) are not in a.ckpt and stay as they were made",
    ]
    load_weights(nn.ReLU(), source.state_dict(), strict=False, source="a.ckpt", tells=False)
    load_weights(source, source.state_dict(), strict=False, source="a.ckpt")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("wrapped", [torch.compile, nn.DataParallel, lambda net: net])
def test_what_is_said_to_load_a_bare_state_dict_does(tmp_path, wrapped):
    path = tmp_path / "weights.pt"
    source, module = nn.Linear(2, 2), nn.Linear(2, 2)
    torch.save(wrapped(source).state_dict(), path)
    with pytest.raises(CheckpointError) as caught:
        require_weights(torch.load(path), path)
    to_do = str(caught.value).splitlines()[2:]
    code = "\n".join(line.strip() for line in to_do[1:]) or to_do[0].partition("use ")[2]
    exec(code, {"torch": torch, "path": path, "module": module})
    assert torch.equal(module.weight, source.weight)


def test_a_module_that_renames_the_weights_itself_gets_them_as_they_are():
    class Renames(nn.Linear):
        def load_state_dict(self, state_dict, **options):
            super().load_state_dict({name[len("_orig_mod.") :]: value for name, value in state_dict.items()}, **options)

    source, target = nn.Linear(2, 2), Renames(2, 2)
    weights = {f"_orig_mod.{name}": value for name, value in source.state_dict().items()}
    load_weights(target, weights, strict=False, source="a.ckpt")
    assert torch.equal(target.weight, source.weight)


def test_an_error_of_the_modules_own_is_passed_on():
    class Refuses(nn.Linear):
        def load_state_dict(self, *args, **kwargs):
            raise RuntimeError("not today")

    with pytest.raises(CheckpointError, match="a.ckpt: not today"):
        load_weights(Refuses(1, 1), nn.Linear(1, 1).state_dict(), strict=True, source="a.ckpt")


def test_a_function_is_called_with_what_it_names():
    assert call_with(lambda b: b, a=1, b=2) == 2
    assert call_with(lambda: 3, a=1) == 3


@pytest.mark.parametrize("kind", [TrainModule, LightningModule, DataModule])
def test_an_instance_does_not_load_a_checkpoint_into_itself(kind):
    class Own(kind):
        pass

    with pytest.raises(TypeError, match=r"makes a new Own and leaves this one as it is.\n.*Own\.load_from_checkpoint"):
        Own().load_from_checkpoint("file.ckpt")


def test_settings_of_other_parts_are_no_hyperparameters_of_a_module(tmp_path):
    file = tmp_path / "hparams.yaml"
    file.write_text("lr: 1\ndata/lr: 2\ndata/size: 3\ntrainer/max_epochs: 4\n")
    assert list(read_hparams(Plain, file).values()) == [{"lr": 1}]
    assert list(read_hparams(DataModule, file).values()) == [{"lr": 2, "size": 3}]
    file.write_text("size: 3\ntrainer/max_epochs: 4\n")
    assert list(read_hparams(DataModule, file).values()) == [{"size": 3}], "as others have written it"


@pytest.mark.parametrize(
    "text", ["- 1", "a: [", "a: &a [*a]", "[" * 2000, "a: !!bool maybe", "a: " + "9" * 5000, "1: 2", "x: {? [a] : b}"]
)
def test_a_file_that_holds_no_hyperparameters_is_named(tmp_path, text):
    (tmp_path / "hparams.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=r"hparams_file=.*hparams\.yaml"):
        read_hparams(Plain, tmp_path / "hparams.yaml")
