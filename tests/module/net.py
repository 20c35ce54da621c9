"""A small module with hyperparameters, and a run of which only the named parts exist."""

from __future__ import annotations

from types import SimpleNamespace

from torch import nn

from trainkit.module import TrainModule
from trainkit.module.attached import attach


class Net(TrainModule):
    def __init__(self, width=3, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.first = nn.Linear(2, width)
        self.second = nn.Linear(width, 1)

    def forward(self, x):
        return self.second(self.first(x))


class Sink:
    """Keeps what it is given to log."""

    def __init__(self):
        self.logged = []

    def log(self, *arguments):
        self.logged.append(arguments)


def attached(module, **trainer):
    """Put ``module`` into a run of which only the named parts exist; return what it logs to."""
    sink = Sink()
    attach(module, SimpleNamespace(**trainer), sink)
    return sink
