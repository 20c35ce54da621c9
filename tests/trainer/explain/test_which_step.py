"""Which step is told, and why; `test_look.py` compares it with the one that runs."""

from __future__ import annotations

from typing import Any

import pytest

from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Looks:
    def on_after_backward(self) -> None:
        pass


class Own(TinyModule):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


class Scaled(TinyModule):
    def backward(self, loss: Any) -> None:
        loss.backward()


@pytest.mark.parametrize(
    ("module", "arguments", "step", "why"),
    [
        (TinyModule, {}, "plain", []),
        (TinyModule, {"gradient_clip_val": 1.0}, "plain", []),
        (TinyModule, {"accumulate_grad_batches": 2}, "general", ["an update takes 2 batches"]),
        (TinyModule, {"callbacks": [Looks()]}, "general", ["Looks joins on_after_backward"]),
        (Scaled, {}, "general", ["Scaled has its own backward"]),
        (Own, {}, "closure", ["Own.optimizer_step decides how often the loss is computed"]),
        (
            TinyModule,
            {"precision": "16-mixed"},
            "general",
            ["MixedFloat16 has its own scale and unscale and update"],
        ),
    ],
)
def test_the_reasons_are_named(module: type, arguments: dict[str, Any], step: str, why: list[str]) -> None:
    told = quiet_trainer(**arguments).explain(module(), TinyData(4))
    assert (told.step, list(told.why)) == (step, why)
