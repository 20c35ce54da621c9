from __future__ import annotations

import io

import torch
from rich.console import Console
from torch import nn

from trainkit.callbacks.model_summary import summarize
from trainkit.callbacks.model_summary.table import as_rich


def drawn(summary):
    console = Console(file=io.StringIO(), width=100)
    console.print(as_rich(summary))
    return console.file.getvalue()


def test_a_drawn_summary_shows_what_the_text_shows():
    summary = summarize(nn.Sequential(nn.Linear(4, 3)), example_input=torch.zeros(2, 4), flops=True)
    text = drawn(summary)
    for column in summary.columns():
        assert column.title in text
        assert all(cell in text for cell in column.cells)
    for name, value in summary.totals():
        assert name in text
        assert value in text


def test_brackets_in_sizes_are_no_markup():
    assert "[[2], [3]]" in drawn(summarize(nn.Sequential(Split()), example_input=torch.zeros(5)))


def test_without_layers_only_totals_are_drawn():
    assert "Type" not in drawn(summarize(nn.Linear(4, 3), 0))


class Split(nn.Module):
    def forward(self, x):
        return x[:2], x[2:]
