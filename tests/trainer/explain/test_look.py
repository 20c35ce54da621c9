"""What is told of a fit is compared with that fit, for programs that are put together of parts."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainkit import Trainer, TrainModule
from trainkit.hooks.specs import HOOKS
from trainkit.loops.closure import step_with_closure
from trainkit.loops.compiled.step import CompiledStep
from trainkit.loops.manual import manual_step
from trainkit.loops.oom_split import step_in_parts
from trainkit.loops.optimize import step
from trainkit.loops.steps import choose_step
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Watch:
    """Notes what a fit does."""

    def __init__(self) -> None:
        self.batches = self.validations = 0
        self.kinds: set[str] = set()
        self.orders: dict[str, list[str]] = {}

    def on_train_batch_start(self, trainer: Trainer) -> None:
        run = trainer.fit_run
        chosen = choose_step(run)
        if isinstance(chosen, CompiledStep):
            kind = "compiled"
        else:
            kind = {manual_step: "manual", step_in_parts: "split", step_with_closure: "closure", step: "usual"}[chosen]  # type: ignore[index]
        if kind == "usual":
            kind = "plain" if run.is_plain and not trainer.hooks.hooks.joined_in_step else "general"
        self.kinds.add(kind)
        self.orders = self.orders or {hook: order for hook in HOOKS if (order := trainer.hooks.order(hook))}

    def on_train_batch_end(self) -> None:
        self.batches += 1

    def on_validation_end(self, trainer: Trainer) -> None:
        self.validations += not trainer.sanity_checking


class Looks:
    def on_after_backward(self) -> None:
        pass


class Scaling(TinyModule):
    def backward(self, loss: Any) -> None:
        (2 * loss).backward()


class Manual(TinyModule):
    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


class Searching(TinyModule):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), max_iter=2)


class Scheduled(TinyModule):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01, weight_decay=0.2)
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=total)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


MODULES = (TinyModule, Scheduled, Scaling, Manual, Searching)
LENGTHS: tuple[dict[str, Any], ...] = (
    {"max_epochs": 3},
    {"max_epochs": 2, "limit_train_batches": 3},
    {"max_epochs": 5, "max_steps": 4},
    {"max_epochs": -1, "max_steps": 7},
)
EXTRAS: tuple[dict[str, Any], ...] = (
    {},
    {"accumulate_grad_batches": 3},
    {"precision": "bf16-mixed"},
    {"val_check_interval": 2},
    {"check_val_every_n_epoch": 2},
    {"gradient_clip_val": 0.1},
    {"callbacks": [Looks()]},
    {"compile": "step"},
)


def fits(module: type, extra: dict[str, Any]) -> bool:
    accumulates, compiles = "accumulate_grad_batches" in extra, "compile" in extra
    clips, checks = "gradient_clip_val" in extra, "val_check_interval" in extra
    if module is Manual:
        return not (accumulates or compiles or clips)
    return not (module in (Scaling, Searching) and (compiles or (module is Searching and (accumulates or checks))))


PROGRAMS = [
    pytest.param(module, length, extra, id=f"{module.__name__}-{length}-{list(extra)}")
    for module, length, extra in itertools.product(MODULES, LENGTHS, EXTRAS)
    if fits(module, extra)
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("module", "length", "extra"), PROGRAMS)
def test_a_fit_does_what_was_told_of_it(module: type, length: dict[str, Any], extra: dict[str, Any]) -> None:
    watch = Watch()
    callbacks = [watch, *extra.get("callbacks", ())]
    trainer = quiet_trainer(**{**length, **extra, "callbacks": callbacks})
    model, train, val = module(), TinyData(5), TinyData(2)
    told = trainer.explain(model, train, val)
    assert (watch.batches, watch.validations, trainer.global_step) == (0, 0, 0)
    trainer.fit(model, train, val)
    assert watch.kinds == {told.step}
    assert bool(told.why) == (told.step != "plain")
    if told.step != "manual":
        assert watch.batches == told.batches
        assert trainer.global_step == told.updates
    assert (told.validation and watch.validations) or not watch.validations
    assert told.hooks == watch.orders
    assert all(len(line) <= 80 for line in str(told).splitlines())


def test_what_is_said_to_be_written_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = Trainer(max_epochs=1, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    told = trainer.explain(TinyModule(), TinyData(2), TinyData(1))
    loggers = {"TensorBoardLogger", "CSVLogger"}
    assert {each.who for each in told.writers} == loggers | {"ModelCheckpoint", "newest state", "RunRecord"}
    assert not any(Path(each.path).exists() for each in told.writers)
    trainer.fit(TinyModule(), TinyData(2), TinyData(1))
    assert all(list(Path(each.path).iterdir()) for each in told.writers)


def test_a_run_that_goes_on_tells_what_is_left(tmp_path: Path) -> None:
    quiet_trainer(max_epochs=2).fit(module := TinyModule(), TinyData(5))
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(module, TinyData(5))
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    told = quiet_trainer(max_epochs=5).explain(TinyModule(), TinyData(5), ckpt_path=tmp_path / "two.ckpt")
    assert (told.epochs, told.batches, told.updates) == (3, 15, 15)
    assert told.start.endswith("two.ckpt: 2 epochs, step 10")


def test_loaders_are_described() -> None:
    data = TensorDataset(torch.randn(25, 4), torch.randn(25, 2))
    loader = DataLoader(data, batch_size=4, shuffle=True)

    class Several(TinyModule):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            pass

    trainer = quiet_trainer(max_epochs=1, limit_train_batches=3)
    train, first, second = trainer.explain(Several(), loader, [DataLoader(data, batch_size=10), TinyData(2)]).loaders
    assert train == ("train", 3, 4, 12, "shuffled")
    assert first == ("val 0", 3, 10, 25, "in order")
    assert second == ("val 1", 2, None, None, "TinyData")


def test_groups_and_memory_of_optimizers_are_told() -> None:
    class Grouped(TrainModule):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.second(self.first(batch)).sum()

        def configure_optimizers(self) -> Any:
            groups = [{"params": self.first.parameters()}, {"params": self.second.parameters(), "lr": 0.5}]
            return torch.optim.SGD(groups, lr=0.1, momentum=0.9)

    told = quiet_trainer(max_epochs=1).explain(Grouped(), [torch.randn(2, 10)])
    assert told.optimizers == [
        "SGD(momentum=0.9) of 200 parameters",
        "    group 0: 100 parameters lr=0.1",
        "    group 1: 100 parameters lr=0.5",
    ]
    assert told.memory == {"weights": 800, "gradients": 800, "optimizer": 800}
    assert told.parameters == (200, 0)


def test_what_is_dealt_out_is_told() -> None:
    class Blocks(TinyModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])

    told = quiet_trainer(max_epochs=1, strategy="fsdp", accelerator="cpu").explain(Blocks(), TinyData())
    assert told.sharding == [
        "mesh: shard 1",
        "units, whole while they compute: 2 Linear of 20",
        "in none of them, and whole for the time of a step: 10",
    ]
    assert "sharding     mesh: shard 1" in str(told)
    assert "on this rank weights" in str(told)
    assert quiet_trainer(max_epochs=1).explain(TinyModule(), TinyData()).sharding == ()
