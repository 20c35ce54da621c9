"""What ``Trainer(compile="step")`` gains over the eager loop that one would write by hand.

Both train the same module with AdamW on one batch from memory, on one thread. They take turns within one fit: the
loader itself runs the loop by hand between two turns, so whatever else the machine does meets both. Run with::

    python -m benchmarks.compiled_step [--case mlp|transformer] [--steps N] [--turns N] [--json FILE]
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

import trainkit

Batch = tuple[Tensor, Tensor]


class Mlp(trainkit.TrainModule):
    """64 inputs, 64 hidden units, 10 classes, batches of 32: what a step costs here is mostly not arithmetic."""

    steps = 300

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    @staticmethod
    def batch() -> Batch:
        return torch.randn(32, 64), torch.randint(10, (32,))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class Transformer(Mlp):
    """Two layers of width 128 over 8 sequences of 64 tokens: here the arithmetic dominates."""

    steps = 5

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(128, nhead=4, dim_feedforward=512, batch_first=True, norm_first=True)
        self.embedding = nn.Embedding(256, 128)
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(128, 256)
        self.net = nn.Sequential(self.embedding, self.layers, self.head, nn.Flatten(0, 1))

    @staticmethod
    def batch() -> Batch:
        return torch.randint(256, (8, 64)), torch.randint(256, (8 * 64,))


CASES: dict[str, type[Mlp]] = {"mlp": Mlp, "transformer": Transformer}


class Turns:
    """``turns`` times ``steps`` batches for a fit; after each turn the loop by hand makes as many steps.

    Attributes:
        ours: Seconds of each turn of the fit.
        hand: Seconds of each turn of the loop by hand.
    """

    def __init__(self, batch: Batch, by_hand: Callable[[Batch, int], None], steps: int, turns: int) -> None:
        self.batch, self.by_hand, self.steps, self.turns = batch, by_hand, steps, turns
        self.ours: list[float] = []
        self.hand: list[float] = []

    def __len__(self) -> int:
        return self.steps * self.turns

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.turns):
            start = time.perf_counter()
            for _ in range(self.steps):
                yield self.batch
            middle = time.perf_counter()
            self.by_hand(self.batch, self.steps)
            self.ours.append(middle - start)
            self.hand.append(time.perf_counter() - middle)


def loop_by_hand(module: Mlp) -> Callable[[Batch, int], None]:
    """Return the loop that a user would write for ``module``."""
    optimizer = module.configure_optimizers()
    module.train()

    def train(batch: Batch, steps: int) -> None:
        for batch_idx in range(steps):
            loss = module.training_step(batch, batch_idx)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()

    return train


def measure(case: str, steps: int | None, turns: int) -> dict[str, float]:
    """Let both train in turns; return medians in microseconds per step, and their ratio."""
    torch.manual_seed(0)
    module = CASES[case]()
    steps = steps or module.steps
    # One turn more to compile in, and one in which the fit ends before the loop by hand has its turn.
    loader = Turns(module.batch(), loop_by_hand(copy.deepcopy(module)), steps, turns + 2)
    trainkit.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        compile="step",
    ).fit(module, loader)
    hand, ours = loader.hand[1:], loader.ours[1:]
    return {
        "hand_us": 1e6 * statistics.median(hand) / steps,
        "compiled_us": 1e6 * statistics.median(ours) / steps,
        "speedup": statistics.median(a / b for a, b in zip(hand, ours, strict=True)),
    }


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description='Trainer(compile="step") against the eager loop written by hand')
    parser.add_argument("--case", choices=CASES, nargs="*", default=list(CASES), help="what is trained")
    parser.add_argument("--steps", type=int, help="steps per turn (default: as the case needs)")
    parser.add_argument("--turns", type=int, default=21, help="how often each loop is measured")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {case: measure(case, arguments.steps, arguments.turns) for case in arguments.case}
    for case, found in figures.items():
        print(
            f"{case}: by hand {found['hand_us']:.1f} us/step, compiled {found['compiled_us']:.1f} us/step: "
            f"{found['speedup']:.2f}x"
        )
    if arguments.json is not None:
        versions = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
        arguments.json.write_text(json.dumps({"compiled_step": figures, **versions}, indent=2) + "\n")


if __name__ == "__main__":
    main()
