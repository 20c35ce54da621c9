from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from trainkit.errors import ModuleError
from trainkit.interval import Interval
from trainkit.module.joint_optimizer import JointOptimizer
from trainkit.precision.base import Precision
from trainkit.strategies.single import SingleDevice
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.types import Phase


def run_of(module=None, val=None, **arguments):
    """Return the run of a fit that has just ended."""
    trainer = quiet_trainer(**arguments)
    trainer.fit(module or TinyModule(), TinyData(2), val)
    return trainer.fit_run


def test_the_sanity_check_has_the_step_of_a_validation():
    trainer = quiet_trainer()
    trainer.validate(TinyModule(), TinyData(1), verbose=False)
    run = trainer.run
    step = run.evaluation_steps[Phase.VALIDATE]
    assert run.evaluation_step() is step
    run.phase = Phase.SANITY_CHECK
    assert run.evaluation_step() is step


# Optimizers


def test_automatic_optimization_updates_with_one_optimizer():
    run = run_of()
    assert run.optimizer is run.optimizers[0]
    weight, bias = run.module.layer.weight, run.module.layer.bias
    joint = JointOptimizer(torch.optim.SGD([weight], lr=0.1), torch.optim.SGD([bias], lr=0.1))
    run.replace_optimizers([joint])
    assert run.optimizer is joint
    assert run.optimizers == joint.optimizers
    assert len(run.wrapped_optimizers) == 2


def test_optimizers_that_are_replaced_have_wrappers_of_their_own():
    class Manual(TinyModule):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

    class Replaces:
        def on_train_batch_end(self, trainer, module, batch_idx):
            if batch_idx == 0:
                trainer.fit_run.replace_optimizers([torch.optim.Adam(module.parameters(), lr=0.5)])

    module = Manual()
    trainer = quiet_trainer(callbacks=[Replaces()])
    trainer.fit(module, TinyData(2))
    assert isinstance(module.optimizers(), torch.optim.Adam)
    assert trainer.optimizers == [module.optimizers().optimizer]
    assert trainer.optimizers[0].state[module.layer.weight]["step"] == 1, "the second update is that of the new one"
    assert trainer.global_step == 2


# What the user's module may do in its own way


def test_gradients_are_cleared_by_the_module_where_it_has_a_way_of_its_own():
    class Own(TinyModule):
        told = ()

        def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
            self.told = (*self.told, (epoch, batch_idx, optimizer is self.optimizers()))
            for parameter in self.parameters():
                parameter.grad = torch.full_like(parameter, 7.0)

    run = run_of()
    run.zero_grad(0)
    assert run.module.layer.weight.grad is None
    run = run_of(Own())
    run.zero_grad(5)
    assert run.module.told == ((0, 0, True), (0, 1, True), (1, 5, True))
    assert run.module.layer.weight.grad.eq(7.0).all()


def test_backward_starts_from_the_scaled_loss_wherever_it_is_done():
    class Own(TinyModule):
        def backward(self, loss, *args, **kwargs):
            self.started_from = loss.item()
            super().backward(loss, *args, **kwargs)

    class Doubles(Precision):
        name = "doubles"

        def scale(self, loss):
            return loss * 2

    for module in (TinyModule(), Own()):
        run = run_of(module, precision=Doubles())
        module.zero_grad()
        run.backward(module.layer.bias.sum())
        assert module.layer.bias.grad.tolist() == [2.0, 2.0]
    assert module.started_from == pytest.approx(2 * module.layer.bias.sum().item())


# Epochs and updates


def test_several_updates_of_a_batch_count_as_one():
    run = run_of()
    run.counted_update = False
    before = run.progress.global_step
    run.count_update()
    run.count_update()
    assert run.progress.global_step == before + 1
    run.counted_update = False
    run.count_update()
    assert run.progress.global_step == before + 2


class OwnOptimizerStep(TinyModule):
    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)


class OwnAgreement(SingleDevice):
    def skips_step(self, skips):
        return skips


class OwnUpdate(Precision):
    name = "own-update"

    def update(self, optimizer, closure=None):
        return super().update(optimizer, closure)


@pytest.mark.parametrize(
    ("module", "arguments", "plain"),
    [
        (TinyModule, {}, True),
        (OwnOptimizerStep, {}, False),
        (TinyModule, {"strategy": OwnAgreement("cpu")}, False),
        (TinyModule, {"precision": OwnUpdate()}, False),
        (TinyModule, {"precision": "16-mixed"}, False),
        (TinyModule, {"precision": "64-true"}, True),
    ],
)
def test_an_epoch_is_plain_where_no_part_does_something_of_its_own(module, arguments, plain):
    run = run_of(module(), **arguments)
    run.start_epoch(2)
    assert run.is_plain is plain


def test_plainness_is_settled_epoch_by_epoch():
    run = run_of(accumulate_grad_batches={0: 1, 1: 2, 2: 1})
    seen = []
    for epoch in (0, 1, 2):
        run.progress.epoch = epoch
        run.start_epoch(2)
        seen.append((run.is_plain, run.accumulation.size))
    assert seen == [(True, 1), (False, 2), (True, 1)]


def test_an_epoch_that_begins_with_gradients_that_wait_is_not_plain():
    run = run_of()
    run.accumulation.rewind(1)
    run.start_epoch(2)
    assert not run.is_plain


def test_an_epoch_that_several_ranks_train_is_not_plain():
    class Distributed(SingleDevice):
        is_distributed = True

    run = run_of()
    run.strategy = Distributed("cpu")
    run.start_epoch(2)
    assert not run.is_plain


@pytest.mark.parametrize("is_last", [True, False])
def test_an_epoch_begins_with_what_is_known_of_its_batches(is_last):
    run = run_of()
    run.progress.is_last = is_last  # where a run continues behind the last batch of an epoch
    run.start_epoch(7)
    assert run.limits.num_batches == 7
    assert run.is_last_batch is is_last


# When something is due


def test_somebody_who_asks_for_a_stop_is_heard_after_the_running_batch():
    run = run_of(max_epochs=1)
    run.limits.max_epochs = math.inf
    run.set_next_check()
    assert run.next_check_batch == math.inf
    run.stop_signal.ask()
    assert run.next_check_batch == 0
    run.set_next_check()
    assert run.next_check_batch == 0, "it is looked for until the run has ended"
    run.stop_signal.ask(False)
    run.set_next_check()
    assert run.next_check_batch == math.inf
    run.stop_signal.received = 15
    run.set_next_check()
    assert run.next_check_batch == 0, "a signal that came a moment ago is looked for too"


def test_an_epoch_begins_with_a_check():
    run = run_of()
    run.next_check_batch = math.inf
    run.start_epoch(2)
    assert run.next_check_batch == 0


def test_a_rank_looks_after_each_batch_once_another_one_asks_for_something():
    run = run_of()
    run.set_next_check()
    assert run.next_check_batch == math.inf
    run.agreement = SimpleNamespace(is_called=True)
    run.set_next_check()
    assert run.next_check_batch == 0


@pytest.mark.parametrize(("epoch", "steps", "stops"), [(0, 9, False), (9, 0, False), (9, 9, True)])
def test_a_stop_waits_for_the_least_that_was_asked_for(epoch, steps, stops):
    run = run_of()
    run.limits.min_epochs, run.limits.min_steps = 1, 3
    run.progress.epoch, run.progress.global_step = epoch, steps
    assert not run.stops_now()
    run.stop_signal.ask()
    assert run.stops_now() is stops


def test_time_that_is_up_stops_as_if_somebody_had_asked():
    run = run_of()
    run.limits.max_time_s = run.progress.elapsed_s + 1000
    assert not run.stops_now()
    run.limits.max_time_s = run.progress.elapsed_s
    assert run.stops_now()
    run.limits.min_steps = 100
    assert not run.stops_now()


def test_training_is_not_over_before_what_has_begun_is_closed():
    run = run_of(max_epochs=1)
    assert run.is_done()
    run.progress.validation_batch = 1
    assert not run.is_done()
    run.progress.validation_batch = 0
    run.progress.batch, run.progress.is_last = 2, True
    assert not run.is_done()
    run.progress.epoch_ended = True
    assert run.is_done()


def test_an_epoch_in_whose_middle_training_ends_is_left_before_it_is_over():
    run = run_of(max_epochs=1)
    run.limits.max_steps, run.progress.global_step, run.progress.batch = 2, 2, 2
    assert run.stops_here()
    assert not run.is_done()
    run.progress.epoch_left = True
    assert run.is_done()
    assert run.has_nothing_to_do()
    run.progress.validation_ending = True
    assert not run.has_nothing_to_do()


def validating_run():
    run = run_of(val=TinyData(1), val_check_interval=2, max_epochs=9, limit_train_batches=2)
    run.progress.epoch, run.progress.batch, run.progress.validated_batch = 0, 1, -1
    return run


def test_a_validation_is_due_once_for_each_batch():
    run = validating_run()
    assert not run.validation_due()
    run.progress.batch = 2
    assert run.validation_due()
    run.progress.validated_batch = 2
    assert not run.validation_due()


def test_a_validation_that_was_cut_short_is_due_again():
    run = validating_run()
    run.progress.validation_batch = 1
    assert run.validation_due()


def test_a_run_that_is_about_to_stop_validates_first():
    run = validating_run()
    run.stop_signal.ask()
    assert run.validation_due()
    run.limits.validate = False
    assert not run.validation_due()


def test_a_validation_by_time_is_due_when_that_has_passed():
    run = validating_run()
    run.progress.batch = 2
    run.limits.validate_every = Interval(1000.0, "seconds")
    assert not run.validation_due()
    run.stop_signal.ask()
    assert run.validation_due(), "the run is about to stop"
    run.stop_signal.ask(False)
    run.limits.validate_every = Interval(0.0, "seconds")
    assert run.validation_due()


class Forgets(TinyModule):
    """Computes a loss, and does not return it."""

    def training_step(self, batch, batch_idx):
        self.loss(batch)


class NeverSteps(TinyModule):
    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        self.manual_backward(self.loss(batch))


@pytest.mark.parametrize(
    ("module", "what"), [(Forgets, "training_step computes a loss, return it"), (NeverSteps, "has to call step")]
)
def test_an_epoch_without_one_update_is_told_once_and_an_error_of_a_fast_dev_run(module, what):
    with pytest.warns(UserWarning, match=f"epoch 0 has made no update of the weights in 3 batches.*{what}") as told:
        quiet_trainer(max_epochs=3).fit(module(), TinyData(3))
    assert len([each for each in told if "no update" in str(each.message)]) == 1
    with pytest.raises(ModuleError, match="has made no update"):
        quiet_trainer(fast_dev_run=2).fit(module(), TinyData(3))


def test_a_model_without_an_optimizer_or_with_some_updates_is_not_told_of():
    class Sometimes(TinyModule):
        def training_step(self, batch, batch_idx):
            return None if batch_idx else self.loss(batch)

    quiet_trainer(max_epochs=2).fit(Sometimes(), TinyData(3))
