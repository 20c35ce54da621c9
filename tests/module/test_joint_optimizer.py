"""Several optimizers that make one update, beside the loop by hand."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim import SGD, AdamW, Muon
from torch.optim.lr_scheduler import ExponentialLR, StepLR

import trainkit
from trainkit import JointOptimizer, split_parameters
from trainkit.callbacks import LearningRateMonitor
from trainkit.errors import OptimizerError
from trainkit.storage.files import read_checkpoint
from trainkit.testing import assert_same_weights, quiet_trainer

BATCHES = 6
EPOCHS = 2


def data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(5, 4, generator=generator), torch.randn(5, 2, generator=generator)) for _ in range(BATCHES)]


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def optimizers_of(module):
    matrices, rest = split_parameters(module)
    return Muon(matrices, lr=0.02), AdamW(rest, lr=0.01)


def schedules_of(optimizers):
    return StepLR(optimizers[0], 2, gamma=0.5), ExponentialLR(optimizers[1], 0.9)


class Joint(trainkit.TrainModule):
    def __init__(self, scheduled=False):
        super().__init__()
        self.network = network()
        self.scheduled = scheduled

    def training_step(self, batch, batch_idx):
        loss = mse_loss(self.network(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        optimizers = optimizers_of(self)
        if not self.scheduled:
            return JointOptimizer(*optimizers)
        schedulers = [{"scheduler": each, "interval": "step"} for each in schedules_of(optimizers)]
        return {"optimizer": JointOptimizer(*optimizers), "lr_scheduler": schedulers}


def by_hand(accumulate, clip, scheduled, precision):
    module = network()
    optimizers = optimizers_of(module)
    schedulers = schedules_of(optimizers) if scheduled else ()
    is_mixed = precision == "16-mixed"
    scaler = torch.amp.GradScaler("cpu", enabled=is_mixed)
    for _ in range(EPOCHS):
        for index, (inputs, targets) in enumerate(data()):
            with torch.autocast("cpu", torch.float16) if is_mixed else nullcontext():
                loss = mse_loss(module(inputs), targets)
            scaler.scale(loss / accumulate).backward()
            if (index + 1) % accumulate:
                continue
            for each in optimizers:
                scaler.unscale_(each)
            if clip:
                nn.utils.clip_grad_norm_(module.parameters(), clip)
            for each in optimizers:
                scaler.step(each)
                each.zero_grad()
            scaler.update()
            for each in schedulers:
                each.step()
    return module


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("scheduled", [False, True])
def test_it_does_what_the_loop_by_hand_does(accumulate, clip, scheduled, precision):
    expected = by_hand(accumulate, clip, scheduled, precision)
    module = Joint(scheduled)
    trainer = quiet_trainer(
        max_epochs=EPOCHS, accumulate_grad_batches=accumulate, gradient_clip_val=clip, precision=precision
    )
    trainer.fit(module, data())
    assert_same_weights(module.network, expected)
    assert trainer.global_step == EPOCHS * BATCHES // accumulate


@pytest.mark.parametrize("stop", [1, 4, 7])
@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_it_goes_on_in_the_middle_of_an_epoch(tmp_path, stop, precision):
    class Save:
        def on_train_batch_end(self, trainer):
            if trainer.fit_run.progress.total_batches == stop:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    arguments = {"max_epochs": EPOCHS, "accumulate_grad_batches": 2, "gradient_clip_val": 0.1, "precision": precision}
    whole = Joint(scheduled=True)
    quiet_trainer(callbacks=[Save()], **arguments).fit(whole, data())
    assert [len(state["param_groups"]) for state in read_checkpoint(tmp_path / "a.ckpt")["optimizer_states"]] == [1, 1]
    resumed = Joint(scheduled=True)
    quiet_trainer(**arguments).fit(resumed, data(), ckpt_path=tmp_path / "a.ckpt")
    assert_same_weights(resumed, whole)


def test_each_has_its_rate_in_rows(tmp_path):
    logger = trainkit.loggers.CSVLogger(tmp_path)
    quiet_trainer(max_epochs=1, log_every_n_steps=1, logger=logger, callbacks=[LearningRateMonitor()]).fit(
        Joint(scheduled=True), data()
    )
    header = next(tmp_path.rglob("metrics.csv")).read_text().splitlines()[0].split(",")
    assert {"lr-Muon", "lr-AdamW"} <= set(header)


def test_plugins_get_one_and_see_all():
    seen = []

    class Look:
        def on_before_optimizer_step(self, trainer, optimizer):
            seen.append((type(optimizer), sum(len(group["params"]) for group in optimizer.param_groups)))

    trainer = quiet_trainer(max_steps=1, callbacks=[Look()])
    module = Joint()
    trainer.fit(module, data())
    assert seen == [(JointOptimizer, 4)]
    assert [type(each) for each in trainer.optimizers] == [Muon, AdamW]
    assert [set(each.state) for each in trainer.optimizers] == [
        set(map(id, [])) or set(each.state) for each in trainer.optimizers
    ]


def test_a_tuple_of_lists_gives_each_its_schedule():
    class Tuple(Joint):
        def configure_optimizers(self):
            optimizers = optimizers_of(self)
            schedulers = [{"scheduler": each, "interval": "step"} for each in schedules_of(optimizers)]
            return [JointOptimizer(*optimizers)], schedulers

    module, expected = Tuple(), Joint(scheduled=True)
    for each in (module, expected):
        quiet_trainer(max_epochs=1).fit(each, data())
    assert_same_weights(module, expected)


@pytest.mark.slow
def test_a_compiled_step_updates_by_all():
    torch._dynamo.reset()

    class ByTwo(Joint):
        def configure_optimizers(self):
            matrices, rest = split_parameters(self)
            return JointOptimizer(SGD(matrices, lr=0.05, momentum=0.9), AdamW(rest, lr=0.01))

    eager, compiled = ByTwo(), ByTwo()
    quiet_trainer(max_epochs=EPOCHS).fit(eager, data())
    quiet_trainer(max_epochs=EPOCHS, compile="step").fit(compiled, data())
    torch.testing.assert_close(compiled.state_dict(), eager.state_dict(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda module: JointOptimizer(), "needs optimizers"),
        (lambda module: JointOptimizer(SGD(module.parameters(), lr=0.1), 3), "no int"),
        (
            lambda module: JointOptimizer(SGD(module.parameters(), lr=0.1), AdamW(module.parameters())),
            r"4 parameters, the first of shape \(8, 4\), are in both SGD and AdamW",
        ),
        (lambda module: JointOptimizer(torch.optim.LBFGS(module.parameters())), "LBFGS evaluates the loss itself"),
        (lambda module: JointOptimizer(SGD(module.parameters(), lr=0.1)).add_param_group({}), "no groups of its own"),
    ],
)
def test_what_cannot_be_joined_is_refused(make, message):
    with pytest.raises(OptimizerError, match=message):
        make(network())


def test_a_plain_list_is_told_of_it():
    class List(Joint):
        def configure_optimizers(self):
            return list(optimizers_of(self))

    with pytest.raises(OptimizerError, match=r"returned 2 optimizers[\s\S]*JointOptimizer"):
        quiet_trainer().fit(List(), data())


def test_its_state_is_that_of_all():
    module = network()
    joint, other = (JointOptimizer(*optimizers_of(each)) for each in (module, network()))
    mse_loss(module(data()[0][0]), data()[0][1]).backward()
    joint.step()
    other.load_state_dict(joint.state_dict())
    assert len(other.state) == len(joint.state) == 4
    assert repr(joint) == "JointOptimizer(Muon, AdamW)"


def test_joint_optimizers_within_one_are_their_parts():
    first, second, third = (SGD([nn.Parameter(torch.zeros(size))], lr=0.1) for size in (1, 2, 3))
    assert JointOptimizer(JointOptimizer(first, second), third).optimizers == [first, second, third]


def test_a_list_of_optimizers_is_told_how_to_be_given():
    with pytest.raises(OptimizerError, match=r"no list: JointOptimizer\(muon, adamw\)"):
        JointOptimizer([SGD([nn.Parameter(torch.zeros(1))], lr=0.1)])


def test_a_scheduler_of_the_joint_one_is_refused_with_what_to_do():
    class Module(Joint):
        def configure_optimizers(self):
            optimizer = JointOptimizer(*optimizers_of(self))
            return {"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, 1)}

    with pytest.raises(OptimizerError, match="make a scheduler for each of its optimizers"):
        quiet_trainer(max_epochs=1).fit(Module(), data())
