"""What each of several ranks does for test_ddp.py: ``torchrun ddp_ranks.py FOLDER`` writes ``FOLDER/rank_N.pt``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from tests.strategies.regression import Regression, make_batch
from trainkit.errors import ModuleError, RankError
from trainkit.strategies import DDP

CPU = torch.device("cpu")
SAMPLES = 6


class PartlyUnused(Regression):
    """Uses the second layer on rank 0 only."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int = 0) -> Tensor:
        hidden = self.inner(batch[0])
        return (self.outer(hidden) if dist.get_rank() == 0 else hidden).square().mean()


def started(**arguments: Any) -> DDP:
    strategy = DDP(timeout_s=60, **arguments)
    strategy.assign([CPU] * int(os.environ["LOCAL_WORLD_SIZE"]))
    strategy.setup()
    return strategy


def share(strategy: DDP, seed: int) -> tuple[Tensor, Tensor]:
    """Return the part of a global batch that belongs to this rank."""
    rows = slice(strategy.rank * SAMPLES, (strategy.rank + 1) * SAMPLES)
    x, y = make_batch(SAMPLES * strategy.world_size, seed)
    return x[rows], y[rows]


def train(strategy: DDP, accumulate: int) -> dict[str, Tensor]:
    """Train from other weights on each rank; every ``accumulate`` batches there is an update."""
    module = Regression(seed=strategy.rank)
    strategy.wrap(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    step = strategy.training_step(module)
    for batch_idx in range(6):
        closes = (batch_idx + 1) % accumulate == 0
        with strategy.gradient_sync(enabled=closes):
            (step(share(strategy, batch_idx), batch_idx) / accumulate).backward()
        if closes:
            optimizer.step()
            optimizer.zero_grad()
    return {name: tensor.clone() for name, tensor in strategy.module_state_dict(module).items()}


def sync_by_hand(strategy: DDP) -> dict[str, Tensor]:
    """Gather gradients without an exchange, one parameter's on rank 0 only, and average them after all."""
    module = PartlyUnused()
    strategy.wrap(module)
    module.training_step(share(strategy, 0)).backward()
    strategy.sync_gradients(module)
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def skip_in_turn(strategy: DDP) -> list[Any]:
    """Skip a batch on no rank, on all, and on rank 1 alone, while rank 0 goes on to something else."""
    answers: list[Any] = [strategy.skips_step(False), strategy.skips_step(True)]
    try:
        if not strategy.skips_step(strategy.rank == 1):
            strategy.barrier()
    except RankError as error:
        answers.append(str(error))
    return answers


def agree(strategy: DDP) -> dict[str, Any]:
    own = torch.tensor([float(strategy.rank), 1.0])
    return {
        **{op: strategy.all_reduce(own, op) for op in ("sum", "mean", "min", "max")},
        "own": own,
        "gathered": strategy.all_gather(own),
        "objects": strategy.all_gather_object({"rank": strategy.rank}),
        "broadcast": strategy.broadcast_object(f"from {strategy.rank}", source=1),
        "any": [strategy.any_rank(strategy.rank == 1), strategy.any_rank(torch.tensor(False))],
    }


def refuse_other_module(strategy: DDP) -> str:
    module = Regression()
    if strategy.rank == 1:
        module.outer = torch.nn.Linear(4, 3)
    try:
        strategy.wrap(module)
    except ModuleError as error:
        return str(error)
    return "was not refused"


def keep_a_group_of_the_user() -> bool:
    dist.destroy_process_group()  # that of the strategy, which is kept until the program ends
    dist.init_process_group("gloo")
    strategy = started()
    strategy.teardown()
    survives = dist.is_initialized()
    dist.destroy_process_group()
    return survives


def check_everything() -> dict[str, Any]:
    results: dict[str, Any] = {}
    checks: dict[str, Callable[[DDP], Any]] = {
        "agreement": agree,
        "weights": lambda strategy: train(strategy, accumulate=1),
        "accumulated": lambda strategy: train(strategy, accumulate=3),
        "synced by hand": sync_by_hand,
        "skips": skip_in_turn,
        "other module": refuse_other_module,
    }
    strategy = started()
    results["rank"] = (strategy.rank, strategy.local_rank, strategy.world_size, strategy.num_nodes)
    for name, check in checks.items():
        results[name] = check(strategy)
    strategy.teardown()
    strategy.setup()
    results["second fit"] = train(strategy, accumulate=1)
    strategy.teardown()
    for options in ({"static_graph": True}, {"find_unused_parameters": True}, {"gradient_as_bucket_view": False}):
        strategy = started(**options)
        results[next(iter(options))] = train(strategy, accumulate=3)
        strategy.teardown()
    results["group of the user survives"] = keep_a_group_of_the_user()
    return results


def main(folder: Path) -> None:
    rank, attempt = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if attempt == 0:
        torch.save(check_everything(), folder / f"rank_{rank}.pt")
        if rank == 1:
            os._exit(1)  # torchrun starts all ranks anew
    strategy = started()
    torch.save(strategy.all_gather_object(attempt), folder / f"restarted_{rank}.pt")
    strategy.teardown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
