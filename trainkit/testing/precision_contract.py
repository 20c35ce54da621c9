"""The check of what every precision must keep."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch

from trainkit.precision.base import Precision
from trainkit.testing.compare import assert_same_state
from trainkit.testing.resume_contract import check_resume
from trainkit.testing.tiny import TinyData, TinyModule, quiet_trainer


def check_precision(make: Callable[[], Precision]) -> None:
    """Check that a precision keeps the promises of all precisions, on the CPU.

    It has a name, two made alike are one to a run that is compared by name, training learns with it, what is clipped
    has its true size, its state can be saved and loaded, and a run that is continued is the one that was not stopped.

    Args:
        make: Returns a new precision at each call, such as the class itself.

    Raises:
        AssertionError: If a promise is broken; says which. Errors of the precision itself are raised as they are.
    """
    precision = make()
    assert isinstance(precision, Precision), f"make() gives a {type(precision).__name__}, which is no Precision"
    assert isinstance(getattr(precision, "name", None), str), f"{type(precision).__qualname__} has no name"
    assert precision == precision.name, f"{type(precision).__qualname__} is not equal to its name"
    assert make() is not precision, "make() must return a new precision at each call"
    # What a run tells of a loss that grows, or of updates that a scaler skips, is said by the promise that is broken.
    with warnings.catch_warnings(action="ignore"):
        _check_learning(make)
        _check_clipping(make)
        _check_resume(make)


def _check_learning(make: Callable[[], Precision]) -> None:
    module, data = TinyModule(), TinyData(num_batches=8)
    before = float(module.loss(data[0]).detach())
    quiet_trainer(max_epochs=20, accelerator="cpu", precision=make()).fit(module, data)
    after = float(copy.deepcopy(module).float().loss(data[0]).detach())
    assert after < before, f"20 epochs have not lowered the loss: {before:.4f} before, {after:.4f} after"


class _Sizes:
    """Notes how large gradients are when plugins may clip them."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_clip_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
        self.seen.append(float(sum(gradient.float().pow(2).sum() for gradient in gradients)) ** 0.5)


def _check_clipping(make: Callable[[], Precision]) -> None:
    plain, own = _Sizes(), _Sizes()
    for sizes, precision in ((plain, None), (own, make())):
        trainer = quiet_trainer(max_epochs=20, accelerator="cpu", precision=precision, callbacks=[sizes])
        # With a rate of 0 all gradients are those of the first batch; a scaler needs some to find its scale.
        trainer.fit(TinyModule(lr=0.0), TinyData(num_batches=1))
    expected, found = plain.seen[-1], own.seen[-1]
    assert abs(found - expected) < 0.1 * expected, (
        f"gradients have the size {found:.4g} where they are clipped, and {expected:.4g} in 32-true: unscale() has to "
        "give them back their true size"
    )


def _check_resume(make: Callable[[], Precision]) -> None:
    runs = check_resume(lambda epochs: quiet_trainer(max_epochs=epochs, accelerator="cpu", precision=make()))
    fresh, state = make(), runs.half.precision.state_dict()
    fresh.setup(torch.device("cpu"))
    fresh.load_state_dict(state)
    assert_same_state(fresh.state_dict(), state, where=f"{type(fresh).__qualname__}.state_dict()")
    assert_same_state(runs.resumed.precision.state_dict(), runs.whole.precision.state_dict())
