"""What one step of the bare loop costs beyond the same step written by hand.

Both train an MLP 64-64-10 with SGD on batches of 32 from memory, on one thread. The two take turns, so that whatever
else the machine does meets both alike, and medians of the turns are compared. Run with::

    python -m benchmarks.bare_step [--steps N] [--turns N] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import trainkit

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Batches:
    """The same batch, ``count`` times."""

    batch: Batch
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return itertools.repeat(self.batch, self.count)


class Mlp(trainkit.TrainModule):
    """64 inputs, 64 hidden units, 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def by_hand(module: Mlp, batches: Batches) -> None:
    """Train for one epoch with the loop a user would write."""
    optimizer = module.configure_optimizers()
    module.train()
    for batch_idx, batch in enumerate(batches):
        loss = module.training_step(batch, batch_idx)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()


def with_trainkit(module: Mlp, batches: Batches) -> None:
    """Train for one epoch with a Trainer that has nothing optional enabled."""
    trainkit.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, batches)


def seconds(train: Callable[[Mlp, Batches], None], batches: Batches) -> float:
    """Return the seconds that one epoch takes, the making of the module left out."""
    torch.manual_seed(0)
    module = Mlp()
    start = time.perf_counter()
    train(module, batches)
    return time.perf_counter() - start


def us_per_step(train: Callable[[Mlp, Batches], None], batches: Batches, few: Batches) -> float:
    """Return the microseconds of one further step: a short epoch is subtracted, and with it what a fit costs once."""
    return 1e6 * (seconds(train, batches) - seconds(train, few)) / (len(batches) - len(few))


def measure(steps: int, turns: int) -> dict[str, float]:
    """Let both loops train ``turns`` times in turn; return medians in microseconds per step."""
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(32, 64, generator=generator), torch.randint(10, (32,), generator=generator)
    batches, few = Batches(batch, steps), Batches(batch, max(1, steps // 10))
    seconds(by_hand, few), seconds(with_trainkit, few)  # warm up
    hand, ours = [], []
    for _ in range(turns):
        hand.append(us_per_step(by_hand, batches, few))
        ours.append(us_per_step(with_trainkit, batches, few))
    # Each turn is its own pair: their difference is steadier than the difference of two medians.
    overhead = statistics.median(a - b for a, b in zip(ours, hand, strict=True))
    hand_us, ours_us = statistics.median(hand), statistics.median(ours)
    return {"hand_us": hand_us, "trainkit_us": ours_us, "overhead_us": overhead, "ratio": ours_us / hand_us}


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description="bare step: trainkit against the loop written by hand")
    parser.add_argument("--steps", type=int, default=500, help="steps per turn")
    parser.add_argument("--turns", type=int, default=41, help="how often each loop is measured")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure(arguments.steps, arguments.turns)
    print(
        f"by hand {figures['hand_us']:.1f} us/step, trainkit {figures['trainkit_us']:.1f} us/step: "
        f"{figures['overhead_us']:+.1f} us, ratio {figures['ratio']:.3f}"
    )
    if arguments.json is not None:
        versions = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
        arguments.json.write_text(json.dumps({"bare_step": figures, **versions}, indent=2) + "\n")


if __name__ == "__main__":
    main()
