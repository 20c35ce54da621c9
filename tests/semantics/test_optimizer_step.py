"""Overriding ``optimizer_step``."""

from __future__ import annotations

from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer


class WarmsUp(TinyModule):
    """The example of Lightning's documentation: a learning rate that grows with ``global_step``."""

    def __init__(self):
        super().__init__(lr=0.5)
        self.rates = []

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        optimizer.step(closure=optimizer_closure)
        self.rates.append((self.trainer.global_step, optimizer.param_groups[0]["lr"]))
        for group in optimizer.param_groups:
            group["lr"] = self.lr * (self.trainer.global_step + 1) / 4


def test_an_update_is_counted_when_optimizer_step_has_returned():
    module = WarmsUp()
    recorder = Recorder(
        ["on_before_optimizer_step", "on_after_optimizer_step", "on_train_batch_end"],
        look=lambda trainer, module: trainer.global_step,
    )
    quiet_trainer(callbacks=[recorder]).fit(module, TinyData(4))
    assert module.rates == [(0, 0.5), (1, 0.125), (2, 0.25), (3, 0.375)]
    assert recorder.seen("on_before_optimizer_step") == [0, 1, 2, 3]
    assert recorder.seen("on_after_optimizer_step") == recorder.seen("on_train_batch_end") == [1, 2, 3, 4]


def test_two_steps_in_one_optimizer_step_are_one_update():
    class Twice(TinyModule):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            optimizer.step(closure=optimizer_closure)
            optimizer.step()

    trainer = quiet_trainer()
    trainer.fit(Twice(), TinyData(3))
    assert trainer.global_step == 3


def test_an_optimizer_step_that_makes_none_counts_none():
    class Every(TinyModule):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            if batch_idx % 2:
                optimizer.step(closure=optimizer_closure)
            else:
                optimizer_closure()

    trainer = quiet_trainer()
    trainer.fit(Every(), TinyData(4))
    assert trainer.global_step == 2
