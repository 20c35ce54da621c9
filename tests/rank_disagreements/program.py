"""The program of one rank: a call of the Trainer in which one of the ranks does something that the others do not."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.rank_disagreements.draws import Draw
from trainkit import Trainer, TrainModule
from trainkit.data import ShardedIterable

SAMPLES, EVALUATED, BATCH = 24, 11, 2


class Act:
    """Does it, once, on the rank whose turn it is.

    Args:
        draw: What is done, and where.
        rank: This rank.
        folder: Where to note that it was done.
    """

    def __init__(self, draw: Draw, rank: int, folder: Path) -> None:
        self.draw, self.folder = draw, folder
        self.is_odd = rank == draw.odd and draw.action != "breaks"
        self.calls = 0
        self.trainer: Trainer | None = None
        self.module: TrainModule | None = None

    def __call__(self) -> Any:
        self.calls += 1
        if not self.is_odd or self.calls != self.draw.at:
            return None
        (self.folder / "fired").touch()
        assert self.trainer is not None
        assert self.module is not None
        return getattr(self, self.draw.action.replace(" ", "_"))(self.trainer, self.module)

    def nothing(self, trainer: Trainer, module: TrainModule) -> None:
        (self.folder / "fired").unlink()

    def raises(self, trainer: Trainer, module: TrainModule) -> None:
        raise ValueError("something is wrong here")

    def stops(self, trainer: Trainer, module: TrainModule) -> None:
        trainer.should_stop = True

    def skips(self, trainer: Trainer, module: TrainModule) -> Any:
        return -1 if self.draw.hook == "on_train_batch_start" else "skip"

    def logs(self, trainer: Trainer, module: TrainModule) -> None:
        module.log("odd", 1.0)

    def logs_with_sync_dist(self, trainer: Trainer, module: TrainModule) -> None:
        module.log("odd", 1.0, sync_dist=True)

    def saves(self, trainer: Trainer, module: TrainModule) -> None:
        trainer.save_checkpoint(self.folder / "odd.ckpt")

    def sleeps(self, trainer: Trainer, module: TrainModule) -> None:
        time.sleep(3)

    def meets(self, trainer: Trainer, module: TrainModule) -> None:
        trainer.strategy.barrier()

    def reduces(self, trainer: Trainer, module: TrainModule) -> None:
        dist.all_reduce(torch.ones(1))

    def changes_a_rate(self, trainer: Trainer, module: TrainModule) -> None:
        for optimizer in trainer.optimizers:
            optimizer.param_groups[0]["lr"] *= 2

    def changes_a_weight(self, trainer: Trainer, module: TrainModule) -> None:
        with torch.no_grad():
            next(module.parameters()).view(-1)[0] += 1

    def is_killed(self, trainer: Trainer, module: TrainModule) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def ends_at_once(self, trainer: Trainer, module: TrainModule) -> None:
        os._exit(9)

    def exits(self, trainer: Trainer, module: TrainModule) -> None:
        sys.exit(3)


class Module(TrainModule):
    """A small network; ``act`` is called in one of its steps or hooks."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
        self.automatic_optimization = not act.draw.is_manual
        self.__dict__["act"] = act

    def loss(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.mse_loss(self.layers(batch[0]), batch[1])

    def at(self, place: str) -> Any:
        return self.act() if self.act.draw.hook == place else None

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.at("training_step") == "skip":
            return None
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.at("validation_step")
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.at("test_step")
        self.log("test/loss", self.loss(batch))

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        self.at("predict_step")
        return self.layers(batch[0])

    def configure_optimizers(self) -> Any:
        self.at("configure_optimizers")
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Odd:
    """A callback in a hook of which ``act`` is called."""


class Early(IterableDataset[Any]):
    """Samples that end early on one rank."""

    def __init__(self, samples: TensorDataset, count: int) -> None:
        self.samples, self.count = samples, count

    def __iter__(self) -> Iterator[Any]:
        return (self.samples[index] for index in range(self.count))


def loader(samples: int, *, early: int | None = None) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(samples)
    data = TensorDataset(*(torch.randn(samples, size, generator=generator).double() for size in (4, 2)))
    return DataLoader(data if early is None else ShardedIterable(Early(data, early)), batch_size=BATCH)


def run(draw: Draw, rank: int, folder: Path) -> dict[str, Any]:
    """Make the call; return what it has come to on this rank."""
    act = Act(draw, rank, folder)
    # Made here and not by a method of one name, so that it may be any hook, with the name that messages are to have.
    owner: Any = type("Odd", (Odd,), {}) if draw.owner == "callback" else type("Module", (Module,), {})
    if not hasattr(Module, draw.hook) or draw.hook.startswith(("on_", "setup", "teardown")):
        parameters = "self, trainer" if draw.owner == "callback" else "self, *arguments"
        exec(f"def {draw.hook}({parameters}):\n    return act()", {"act": act}, scope := {})
        function: Any = scope[draw.hook]
        function.__code__ = function.__code__.replace(co_qualname=f"{owner.__name__}.{draw.hook}")
        setattr(owner, draw.hook, function)
    module = act.module = owner(act) if draw.owner == "module" else Module(act)
    trainer = act.trainer = Trainer(
        accelerator="cpu",
        strategy="ddp",
        max_epochs=2,
        num_sanity_val_steps=2 if draw.validates else 0,
        accumulate_grad_batches=draw.accumulate,
        callbacks=[owner()] if draw.owner == "callback" else [],
        logger=False,
        enable_checkpointing=draw.saves,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    early = 2 * draw.world_size * draw.at - 1 if rank == draw.odd else None
    if draw.action == "breaks":
        if rank == draw.odd:
            (folder / "fired").touch()
        loaders = [loader(size, early=min(early or size, size)) for size in (SAMPLES, EVALUATED)]
    else:
        loaders = [loader(SAMPLES), loader(EVALUATED)]
    given: Any = (loaders[0], loaders[1] if draw.validates else None) if draw.call == "fit" else (loaders[1],)
    call: Callable[..., Any] = getattr(trainer, draw.call)
    returned = call(module, *given)
    rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return {
        "weights": module.state_dict(),
        "rates": rates if draw.call == "fit" else [],
        "global_step": trainer.global_step,
        "metrics": {name: value for name, value in trainer.callback_metrics.items() if not name.startswith("odd")},
        "returned": [
            {k: v for k, v in each.items() if k != "odd"} if isinstance(each, dict) else each for each in returned or []
        ],
    }
