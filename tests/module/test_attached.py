from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.module.net import Net, Sink, attached
from trainkit.errors import NotAttachedError
from trainkit.module.attached import attach, log_to, sink_of
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_print_prints_on_rank_zero_only(capsys):
    module = Net()
    module.print("alone")
    attached(module, is_global_zero=True)
    module.print("first", end="!")
    attached(module, is_global_zero=False)
    module.print("second")
    assert capsys.readouterr().out == "alone\nfirst!"


def test_before_a_run_there_is_no_trainer_and_counters_are_zero():
    module = Net()
    with pytest.raises(NotAttachedError, match="Net"):
        module.trainer  # noqa: B018
    assert (module.global_step, module.current_epoch, module.global_rank, module.local_rank) == (0, 0, 0, 0)
    assert module.logger is None
    assert module.loggers == []


def test_in_a_run_they_are_those_of_the_trainer():
    module = Net()
    strategy = SimpleNamespace(local_rank=2)
    attached(module, global_step=7, current_epoch=3, global_rank=4, strategy=strategy, logger="a", loggers=("a", "b"))
    assert (module.global_step, module.current_epoch, module.global_rank, module.local_rank) == (7, 3, 4, 2)
    assert (module.logger, module.loggers) == ("a", ["a", "b"])


def test_after_a_run_the_trainer_stays_readable_and_nothing_is_logged():
    module, sink = Net(), Sink()
    detach = attach(module, SimpleNamespace(global_step=7), sink)
    detach()
    assert module.global_step == 7
    with pytest.warns(UserWarning, match="outside a run"):
        module.log("a", 1.0)
    assert sink.logged == []


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_is_the_module_alone_and_not_its_run(twin_of):
    module = Net(5)
    attached(module, global_step=7, unpicklable=lambda: None)
    twin = twin_of(module)
    assert twin.global_step == 0
    assert twin.hparams == {"width": 5, "lr": 0.1}
    assert same_weights(twin, module)
    assert module.global_step == 7


def test_a_module_inside_another_knows_the_run_and_logs_in_it():
    class Inner(TinyModule):
        def forward(self, x):
            self.log("inner", float(self.current_epoch))
            return super().forward(x) * min(1, self.trainer.max_epochs)

    class Outer(TinyModule):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([Inner(2, 2)])

        def forward(self, x):
            return self.parts[0](super().forward(x))

    trainer, module = quiet_trainer(max_epochs=2), Outer()
    trainer.fit(module, TinyData(2))
    assert trainer.callback_metrics["inner"] == 1.0
    assert module.parts[0].global_step == 4
    with pytest.warns(UserWarning, match="outside a run"):
        module.parts[0].log("inner", 1.0)


def test_a_sink_takes_the_place_of_the_one_before_it():
    module, second = Net(), Sink()
    assert sink_of(module) is None
    first = attached(module)
    assert sink_of(module) == first.log
    log_to(module, second.log)
    module.log("a", 1.0)
    assert first.logged == []
    assert [arguments[:2] for arguments in second.logged] == [("a", 1.0)]


def test_a_module_in_an_inner_run_goes_back_to_the_outer_one():
    module, outer, inner = Net(), Sink(), Sink()
    attach(module, SimpleNamespace(global_step=1), outer)
    detach = attach(module, SimpleNamespace(global_step=2), inner)
    assert module.global_step == 2
    detach()
    assert module.global_step == 1
    assert sink_of(module) == outer.log
