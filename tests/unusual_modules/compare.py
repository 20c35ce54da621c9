"""One draw, trained by the Trainer and by hand."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from tests.unusual_modules.by_hand import ByHand
from tests.unusual_modules.draws import draw
from tests.unusual_modules.modules import make_module
from trainkit.testing import quiet_trainer


class Changes:
    """Has the module change its parameters at the beginning of the second epoch."""

    def on_train_epoch_start(self, *args: Any) -> None:
        trainer, module = args
        if trainer.current_epoch == 1:
            module.change(trainer.optimizers[0])


def differences(seed: int) -> list[str]:
    """Return what the Trainer has done otherwise than the loop by hand, which should be nothing."""
    drawn = draw(seed)
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, 3), (2, 1)]
    data = [tuple(torch.randn(s, generator=generator).double() for s in shapes) for _ in range(drawn.batches)]
    expected = ByHand(drawn, data)
    module = make_module(drawn)
    trainer = quiet_trainer(
        max_epochs=drawn.epochs,
        max_steps=drawn.max_steps,
        accumulate_grad_batches=drawn.group,
        gradient_clip_val=drawn.clip,
        callbacks=[Changes()],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, data, data)
    pairs = {
        "events": (module.events, expected.model.events),
        "steps": (trainer.global_step, expected.steps),
        "evaluations": (module.evaluations, expected.model.evaluations),
    }
    found = [f"{name}: {actual} for {wanted}" for name, (actual, wanted) in pairs.items() if actual != wanted]
    weights = expected.model.state_dict()
    for name, value in module.state_dict().items():
        if not torch.allclose(value, weights[name], rtol=1e-9, atol=1e-12):
            found.append(f"{name}: differs by {(value - weights[name]).abs().max():.2e}")
    return found
