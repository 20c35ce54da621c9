from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit.callbacks import ModelSummary
from trainkit.errors import ConfigError
from trainkit.testing import TinyData, TinyModule, assert_same_weights, check_callback, quiet_trainer


class Sized(TinyModule):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout()
        self.example_input_array = torch.zeros(6, 4)

    def forward(self, x):
        return self.drop(super().forward(x))


def fit(module, *, summary=None, **arguments):
    arguments = {"callbacks": [summary], "enable_model_summary": True} | arguments if summary else arguments
    quiet_trainer(**arguments).fit(module, TinyData(3))
    return module


def test_a_fit_begins_with_the_summary(capsys):
    fit(Sized(), summary=ModelSummary())
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["layer", "Linear", "10", "train", "[6,", "4]", "[6,", "2]"]
    assert "Total params      10" in lines


def test_other_entry_points_print_no_summary(capsys):
    quiet_trainer(callbacks=[ModelSummary()], enable_model_summary=True).validate(
        TinyModule(), TinyData(1), verbose=False
    )
    assert capsys.readouterr().out == ""


def test_training_is_the_same_with_a_summary_and_without():
    fits = []
    for summary in (None, ModelSummary(flops=True)):
        torch.manual_seed(3)
        fits.append(fit(Sized(), summary=summary))
    assert_same_weights(*fits)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_the_example_gets_the_precision_of_the_run(capsys, precision):
    seen = []

    class Watches(Sized):
        def forward(self, x):
            output = super().forward(x)
            seen.append((x.dtype, output.dtype))
            return output

    fit(Watches(), summary=ModelSummary(), precision=precision)
    assert len(set(seen)) == 1


def test_depth_and_operations_are_passed_on(capsys):
    module = TinyModule()
    module.layer = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    module.example_input_array = torch.zeros(1, 4)
    fit(module, summary=ModelSummary(max_depth=2, flops=True))
    printed = capsys.readouterr().out
    assert "layer.1" in printed
    assert "FLOPs, forward    36" in printed


@pytest.mark.parametrize("arguments", [{"max_depth": -2}, {"flops": "yes"}])
def test_arguments_that_cannot_be_are_refused(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        ModelSummary(**arguments)


def test_it_keeps_what_every_callback_promises(capsys):
    check_callback(ModelSummary, enable_model_summary=True)
