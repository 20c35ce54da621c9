from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from trainkit.errors import ModuleError
from trainkit.strategies.single import SingleDevice
from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights, quiet_trainer


class WithGradientSync(SingleDevice):
    """Changes something that the plain step leaves out, so that the general one is taken."""

    def gradient_sync(self, *, enabled):
        return nullcontext()


class DictsAndGaps(TinyModule):
    """Returns a loss, a dict, None, and begins again."""

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        return [loss, {"loss": loss, "extra": 1}, None][batch_idx % 3]


def is_plain(module, **arguments):
    seen = []

    class Look:
        def on_train_batch_start(self, trainer):
            seen.append(trainer.fit_run.is_plain)

    quiet_trainer(callbacks=[Look()], **arguments).fit(module, TinyData(2))
    return seen[0]


@pytest.mark.parametrize("arguments", [{}, {"gradient_clip_val": 1.0}, {"precision": "bf16-mixed"}])
def test_most_runs_are_plain(arguments):
    assert is_plain(TinyModule(), **arguments)


class OwnBackward(TinyModule):
    def backward(self, loss, *args, **kwargs):
        super().backward(loss, *args, **kwargs)


class OwnZeroGrad(TinyModule):
    def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
        super().optimizer_zero_grad(epoch, batch_idx, optimizer)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (TinyModule, {"accumulate_grad_batches": 2}),
        (TinyModule, {"accumulate_grad_batches": {0: 2, 3: 1}}),
        (TinyModule, {"precision": "16-mixed"}),
        (TinyModule, {"strategy": WithGradientSync("cpu")}),
        (OwnBackward, {}),
        (OwnZeroGrad, {}),
    ],
)
def test_what_it_leaves_out_is_done_where_something_changes_it(module, arguments):
    assert not is_plain(module(), **arguments)


@pytest.mark.parametrize(
    "arguments", [{}, {"gradient_clip_val": 0.01}, {"precision": "bf16-mixed"}, {"precision": "64-true"}]
)
@pytest.mark.parametrize("make", [TinyModule, DictsAndGaps])
def test_it_does_what_the_general_step_does(make, arguments):
    runs = []
    for strategy in ("cpu", WithGradientSync("cpu")):
        module = make()
        recorder = Recorder(
            look=lambda trainer, module: (trainer.global_step, module.layer.weight.tolist()),
            only=["on_train_batch_start", "on_clip_gradients", "on_train_batch_end"],
        )
        trainer = quiet_trainer(max_epochs=2, strategy=strategy, callbacks=[recorder], max_steps=5, **arguments)
        trainer.fit(module, TinyData(4))
        losses = [outputs["outputs"].get("loss") for outputs in recorder.arguments("on_train_batch_end")]
        runs.append((module, [(call.hook, call.seen) for call in recorder.calls], losses))
    (plain, calls, losses), (general, expected_calls, expected_losses) = runs
    assert calls == expected_calls
    assert losses == expected_losses
    assert_same_weights(plain, general)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda loss: loss.detach(), "does not require grad"),
        (lambda loss: loss * torch.ones(2), r"shape \(2,\)"),
        (lambda loss: {"los": loss}, "no loss tensor"),
        (lambda loss: 1.0, "no loss tensor"),
    ],
)
def test_a_mistake_is_refused_as_by_the_general_step(output, message):
    class Mistaken(TinyModule):
        def training_step(self, batch, batch_idx):
            return output(self.loss(batch))

    with pytest.raises(ModuleError, match=message):
        quiet_trainer().fit(Mistaken(), TinyData(2))


def test_a_plugin_that_joins_in_mid_run_is_heard_from_the_next_step_on():
    class Late:
        def __init__(self):
            self.heard = []

        def on_after_backward(self, trainer):
            self.heard.append(trainer.global_step)

    class Enrols:
        def on_train_batch_end(self, trainer, batch_idx):
            if batch_idx == 1:
                trainer.hooks.register(late)
            if batch_idx == 4:
                trainer.hooks.unregister(late)
                trainer.hooks.register(last)

    class Last:
        torn_down = False

        def teardown(self):
            self.torn_down = True

    late, last = Late(), Last()
    quiet_trainer(max_epochs=1, callbacks=[Enrols()]).fit(TinyModule(), TinyData(8))
    assert late.heard == [2, 3, 4]
    assert last.torn_down


@pytest.mark.parametrize("batch_idx", [1, 5])
def test_a_stop_that_is_asked_for_while_nothing_is_due_ends_the_run(batch_idx):
    class StopsAt:
        def on_train_batch_start(self, trainer, batch_idx):
            trainer.should_stop = batch_idx == stop_at

    stop_at = batch_idx
    trainer = quiet_trainer(max_epochs=3, callbacks=[StopsAt()])
    trainer.fit(TinyModule(), TinyData(8))
    assert trainer.global_step == batch_idx + 1


# What comes beside a loss


class Weighing(TinyModule):
    weight = 4.0

    def training_step(self, batch, batch_idx):
        return {"loss": self.loss(batch) * 4, "weight": self.weight}


@pytest.mark.parametrize("weight", [torch.ones(3), torch.ones(0), [1.0, 2.0], "many"], ids=str)
def test_a_weight_that_is_not_one_number_is_an_error_that_says_what_it_is(weight):
    module = Weighing()
    module.weight = weight
    with pytest.raises(
        ModuleError, match=r"'weight' that is a \w+.*not one number.*Give weights of samples another key"
    ):
        quiet_trainer(max_steps=1).fit(module, TinyData(1))


@pytest.mark.parametrize("weight", [4, torch.tensor([[4.0]]), torch.tensor(4.0, requires_grad=True)], ids=str)
def test_a_weight_of_one_element_is_a_number_in_any_shape(weight):
    module, plain = Weighing(), TinyModule()
    module.weight = weight
    for each in (module, plain):
        quiet_trainer().fit(each, TinyData(2))
    torch.testing.assert_close(dict(module.named_parameters()), dict(plain.named_parameters()))
