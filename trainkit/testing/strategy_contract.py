"""The check of what every strategy must keep."""

from __future__ import annotations

from collections.abc import Callable

import torch

from trainkit.strategies.base import Strategy
from trainkit.testing.compare import assert_same_weights
from trainkit.testing.resume_contract import check_resume
from trainkit.testing.tiny import TinyData, TinyModule, quiet_trainer
from trainkit.trainer import Trainer


def check_strategy(make: Callable[[], Strategy]) -> None:
    """Check that a strategy keeps the promises of all strategies, on one process and the CPU.

    It has a name and takes a device, what it runs gives the weights of the same run on one device to 1e-6, with
    accumulation and clipping too, evaluation and prediction give the same numbers, the module keeps its own names in
    checkpoints, a run can be continued, and `teardown` may be called twice.

    Args:
        make: Returns a new strategy at each call, such as the class itself.

    Raises:
        AssertionError: If a promise is broken; says which. Errors of the strategy itself are raised as they are.
    """
    _check_form(make)
    for arguments in ({}, {"accumulate_grad_batches": 2}, {"gradient_clip_val": 0.1}):
        plain, trained = TinyModule(), TinyModule()
        _fitted(plain, None, **arguments)
        trainer = _fitted(trained, make(), **arguments)
        assert_same_weights(trained, plain, atol=1e-6)
        names = set(trainer.dump_checkpoint()["state_dict"])
        assert names == set(plain.state_dict()), f"a checkpoint has the names {sorted(names)}, not those of the module"
    _check_evaluation(make)
    check_resume(lambda epochs: quiet_trainer(max_epochs=epochs, accelerator="cpu", strategy=make()))


def _check_form(make: Callable[[], Strategy]) -> None:
    strategy = make()
    assert isinstance(strategy, Strategy), f"make() gives a {type(strategy).__name__}, which is no Strategy"
    assert isinstance(getattr(strategy, "name", None), str), f"{type(strategy).__qualname__} has no name"
    assert make() is not strategy, "make() must return a new strategy at each call"
    if not strategy.devices:
        strategy.assign([torch.device("cpu")])
    assert strategy.device.type == "cpu", f"after assign([cpu]) the device is {strategy.device}"
    strategy.setup()
    strategy.setup()  # each call of a Trainer does so
    strategy.teardown()
    strategy.teardown()


def _fitted(module: TinyModule, strategy: Strategy | None, **arguments: object) -> Trainer:
    trainer = quiet_trainer(max_epochs=2, accelerator="cpu", strategy=strategy or "single", **arguments)
    trainer.fit(module, TinyData(num_batches=5, last_batch_size=1), TinyData(num_batches=2))
    return trainer


def _check_evaluation(make: Callable[[], Strategy]) -> None:
    module, data = TinyModule(), TinyData(num_batches=3, last_batch_size=1)
    one, other = quiet_trainer(accelerator="cpu"), quiet_trainer(accelerator="cpu", strategy=make())
    for name in ("validate", "test"):
        expected, found = (getattr(trainer, name)(module, data)[0] for trainer in (one, other))
        assert found.keys() == expected.keys() and all(abs(found[key] - expected[key]) < 1e-6 for key in found), (
            f"trainer.{name}() gives {found}, and {expected} on one device"
        )
    predicted = [trainer.predict(module, data) for trainer in (one, other)]
    same = all(torch.allclose(a.cpu(), b.cpu(), atol=1e-6) for a, b in zip(*predicted, strict=True))
    assert same, "trainer.predict() gives other predictions than on one device"
