from __future__ import annotations

import torch
from torch import nn

from trainkit.callbacks.model_summary import summarize


def test_a_summary_is_a_table():
    module = nn.Sequential(nn.Linear(40, 30), nn.ReLU()).eval()
    module[0].requires_grad_(False)
    module.scale = nn.Parameter(torch.ones(1))
    assert str(summarize(module, example_input=torch.zeros(2, 40), flops=True)) == "\n".join(
        [
            "Name   Type       Params  Mode  In       Out      FLOPs",
            "-----  ---------  ------  ----  -------  -------  -----",
            "0      Linear      1,230  eval  [2, 40]  [2, 30]  4,800",
            "1      ReLU            0  eval  [2, 30]  [2, 30]      0",
            "(own)  Parameter       1",
            "",
            "Trainable params  1",
            "Frozen params     1,230",
            "Total params      1,231",
            "Size              0.005 MB",
            "Modules           0 in train mode, 3 in eval mode",
            "FLOPs, forward    4,800",
        ]
    )


def test_columns_with_nothing_to_show_are_left_out():
    header = str(summarize(nn.Sequential(nn.Linear(4, 3)))).splitlines()[0]
    assert header.split() == ["Name", "Type", "Params", "Mode"]


def test_without_layers_there_are_only_totals():
    assert str(summarize(nn.Linear(4, 3), 0)).startswith("Trainable params  15")


def test_what_is_no_tensor_has_an_unknown_size():
    class Pair(nn.Module):
        def forward(self, x):
            return x, "text"

    module = nn.Sequential(Pair())
    assert "[1, 4]  [[1, 4], ?]" in str(summarize(module, example_input=torch.zeros(1, 4)))


def test_a_layer_that_was_not_called_has_an_unknown_size():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x)

    spare = str(summarize(Net(), example_input=torch.zeros(1, 4))).splitlines()[3]
    assert spare.split() == ["spare", "Linear", "15", "train", "?", "?"]


def test_names_cannot_act_on_a_terminal():
    module = nn.Module()
    module.add_module("a\x1b[2J\n", type("B\r[/]", (nn.Linear,), {})(1, 1))
    text = str(summarize(module))
    assert r"a\x1b[2J\n  B\r[/]" in text
    assert text.replace("\n", "").isprintable()
