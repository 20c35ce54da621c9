"""Fits with ``fsdp`` on however many ranks there are: ``python fsdp_fit.py FOLDER`` writes ``FOLDER/fsdp_N.pt`` on N.

A global batch has the same samples whatever the number of ranks, so that all come to what one process does. All are in
double precision but those that say otherwise.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trainkit import Trainer, TrainModule
from trainkit.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from trainkit.module.shards import is_sharded, own_part, whole
from trainkit.strategies import FSDP, Strategy

GLOBAL_BATCH = 12


class Block(nn.Module):
    """A layer that stands several times in a module, with a scale that is used by no layer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)
        self.scale = nn.Parameter(torch.ones(size))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x).tanh() * self.scale


class Net(TrainModule):
    """Repeated blocks, which are units by default, and layers and a parameter of its own."""

    make_optimizer: Callable[..., Any] = staticmethod(lambda parameters: torch.optim.AdamW(parameters, lr=0.01))

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        vars(self).update(attributes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.build()

    def build(self) -> None:
        self.first = nn.Linear(5, 7)
        self.blocks = nn.ModuleList([Block(7) for _ in range(3)])
        self.last = nn.Linear(7, 3)
        self.shift = nn.Parameter(torch.zeros(3))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x) + self.shift

    def loss_of(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss_of(batch)
        self.log("train/loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss = self.loss_of(batch)
        self.log("val/loss", loss)
        self.log("val/sum", batch[1].sum(), reduce_fx="sum")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        return self.make_optimizer(self.parameters())


class Manual(Net):
    """Two updates for each batch, clipped, of what is looked at in between; one loss goes backward twice."""

    automatic_optimization = False

    def build(self) -> None:
        super().build()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        for _ in range(2):
            optimizer.zero_grad()
            loss = self.loss_of(batch)
            self.manual_backward(loss, retain_graph=True)
            self.manual_backward(0.5 * loss)
            self.clip_gradients(optimizer, gradient_clip_val=0.1)
            optimizer.step()
        self.log("train/loss", loss, on_epoch=True, on_step=False)


class Two(Net):
    """Two optimizers in turn, each with the parameters of the other switched off, and cleared behind its update."""

    def build(self) -> None:
        super().build()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            self.toggle_optimizer(optimizer)
            loss = self.loss_of(batch)
            self.manual_backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            self.untoggle_optimizer(optimizer)
        self.log("train/loss", loss, on_epoch=True, on_step=False)

    def configure_optimizers(self) -> Any:
        own = [*self.first.parameters(), *self.blocks[0].parameters()]
        others = [each for each in self.parameters() if all(each is not other for other in own)]
        return torch.optim.AdamW(own, lr=0.01), torch.optim.SGD(others, lr=0.1, momentum=0.9)


class Sharpness(Net):
    """Changes its weights between two backwards, past the optimizer."""

    def build(self) -> None:
        super().build()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        self.manual_backward(self.loss_of(batch))
        gradients = {p: 0.1 * p.grad for group in optimizer.param_groups for p in group["params"]}
        with torch.no_grad():
            for parameter, change in gradients.items():
                parameter.add_(change)
        optimizer.zero_grad()
        loss = self.loss_of(batch)
        self.manual_backward(loss)
        with torch.no_grad():
            for parameter, change in gradients.items():
                parameter.sub_(change)
        optimizer.step()
        optimizer.zero_grad()
        self.log("train/loss", loss, on_epoch=True, on_step=False)


class Tied(Net):
    """The last layer shares its weight with the first, and two blocks are one; a layer takes no part in the loss."""

    def build(self) -> None:
        super().build()
        self.blocks[2] = self.blocks[1]
        self.last = nn.Linear(7, 5)
        self.back = nn.Linear(5, 3)
        self.last.weight = nn.Parameter(self.first.weight.detach().t().contiguous())
        self.again = nn.Linear(5, 7)
        self.again.weight = self.first.weight
        self.unused = nn.Linear(3, 3)
        self.shift = nn.Parameter(torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.back(super().forward(x) + x) + self.again(x)[:, :3]


class Frozen(Net):
    """Some parameters are frozen at first, and others later."""

    def build(self) -> None:
        super().build()
        self.blocks[0].requires_grad_(False)
        self.first.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        self.first.requires_grad_(self.current_epoch > 0)
        self.blocks[0].requires_grad_(self.current_epoch > 0)
        self.blocks[2].requires_grad_(self.current_epoch < 1)


class Normed(Net):
    """Has layers that autocast leaves in float32, and one that it does not know."""

    def build(self) -> None:
        super().build()
        self.norm = nn.BatchNorm1d(7)
        self.table = nn.Embedding(4, 7)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.norm(self.first(x) + self.table(x[:, 0].abs().long().clamp(max=3)))[:, :3]


class Overflowing(Net):
    """Has gradients that overflow in the second batch, on one rank."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return loss * 1e38 if batch_idx == 1 and self.trainer.is_global_zero else loss


class OnMeta(Net):
    """Is made without memory, and gets values when it is sharded."""

    def build(self) -> None:
        """Leave it to `configure_model`."""

    def configure_model(self) -> None:
        if not hasattr(self, "first"):
            with torch.device("meta"):
                Net.build(self)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.shift)
        self.batches.zero_()


def fit(module: Net, strategy: Strategy | str, **arguments: Any) -> dict[str, Any]:
    """Train and predict; return what came out."""
    epochs = arguments.pop("max_epochs", 2)
    arguments.setdefault("precision", "64-true")
    ckpt_path = arguments.pop("ckpt_path", None)
    save_to = arguments.pop("save_to", None)
    trainer = Trainer(
        accelerator="cpu",
        strategy=strategy,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )
    x, y = make_data(36, seed=1)
    val = DataLoader(TensorDataset(*make_data(11, seed=2)), batch_size=2)
    size = GLOBAL_BATCH // trainer.strategy.data_world_size
    trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=size), val, ckpt_path=ckpt_path)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if save_to is not None:
        trainer.save_checkpoint(save_to)
    parameters = list(module.parameters())
    few = DataLoader(TensorDataset(*make_data(1, seed=3)), batch_size=2)
    return {
        "weights": {name: whole(each.detach()).clone() for name, each in module.state_dict().items()},
        "logged": logged,
        "predicted": torch.cat(trainer.predict(module, val) + trainer.predict(module, few)),
        "outside": predict_outside(trainer, module, x.to(module.dtype)),
        "held": sum(own_part(each).numel() for each in parameters) / sum(each.numel() for each in parameters),
        "are_sharded": all(map(is_sharded, parameters)),
    }


def predict_outside(trainer: Trainer, module: Net, x: Tensor) -> Tensor:
    """Call the module when the fit is over."""
    with torch.no_grad(), trainer.precision.autocast():
        return module(x).clone()


def make_data(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 5, generator=generator), torch.randn(samples, 3, generator=generator)


def optimizers() -> dict[str, Callable[..., Any]]:
    return {
        "fused AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
        "foreach AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True, amsgrad=True),
        "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
        "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
        "Adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
        "NAdam": lambda p: torch.optim.NAdam(p, lr=0.01),
        "RAdam": lambda p: torch.optim.RAdam(p, lr=0.01),
        "ASGD": lambda p: torch.optim.ASGD(p, lr=0.01),
        "Rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
        "Adadelta": lambda p: torch.optim.Adadelta(p, lr=0.01),
    }


def refused() -> dict[str, Callable[..., Any]]:
    return {
        "fused SGD": lambda p: torch.optim.SGD(p, lr=0.01, fused=True),
        "Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
        "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.01),
    }


def programs() -> dict[str, Callable[[Strategy | str], dict[str, Any]]]:
    """Return what is to be compared, each called with a strategy."""
    ema: Callable[[], list[Any]] = lambda: [EMAWeightAveraging(decay=0.5)]  # noqa: E731
    swa: Callable[[], list[Any]] = lambda: [StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2)]  # noqa: E731
    return {
        "plain": lambda s: fit(Net(), s),
        "manual": lambda s: fit(Manual(), s),
        "two optimizers": lambda s: fit(Two(), s),
        "changed between backwards": lambda s: fit(Sharpness(), s),
        "tied": lambda s: fit(Tied(), s),
        "frozen": lambda s: fit(Frozen(), s),
        "accumulated": lambda s: fit(Net(), s, accumulate_grad_batches=2),
        "clipped by norm": lambda s: fit(Net(), s, gradient_clip_val=0.05),
        "clipped by value": lambda s: fit(Net(), s, gradient_clip_val=0.01, gradient_clip_algorithm="value"),
        "ema": lambda s: fit(Net(), s, callbacks=ema()),
        "swa": lambda s: fit(Net(), s, callbacks=swa(), max_epochs=4),
        **{name: lambda s, make=make: fit(Net(make_optimizer=make), s) for name, make in optimizers().items()},
    }


HALVES: list[tuple[str, type[Net], str]] = [
    ("bf16", Normed, "bf16-mixed"),
    ("fp16", Net, "16-mixed"),
    ("overflow", Overflowing, "16-mixed"),
    ("true bf16", Net, "bf16-true"),
]

VARIANTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "no unit": lambda n: {"wrap_policy": lambda module: False},
    "classes": lambda n: {"wrap_policy": {Block, nn.Linear}},
    "from a size": lambda n: {"wrap_policy": 50},
    "kept": lambda n: {"reshard_after_forward": False},
    "checkpointed": lambda n: {"activation_checkpointing": True},
    "checkpointed layers": lambda n: {"activation_checkpointing": nn.Linear, "wrap_policy": Block},
    "offloaded": lambda n: {"cpu_offload": True},
    "copies": lambda n: {"mesh": (n, 1)},
    "one copy": lambda n: {"mesh": (1, n)},
}
"""Arguments of `FSDP` for a number of ranks, all of which come to the same."""


def attempt(run: Callable[[], Any]) -> Any:
    """Return what ``run`` does, or the error as text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()
    except Exception as error:
        return f"{type(error).__name__}: {error}\n{traceback.format_exc()}"


def main(folder: Path, chosen: list[str]) -> None:
    world_size = int(os.environ["WORLD_SIZE"])
    runs: dict[str, Callable[[], Any]] = {name: lambda run=run: run(FSDP()) for name, run in programs().items()}
    runs |= {
        f"{name}, {kind}": lambda make=make, kind=kind: programs()[kind](FSDP(**make(world_size)))
        for name, make in VARIANTS.items()
        for kind in ("plain", "manual")
    }
    runs |= {name: lambda make=make: fit(Net(make_optimizer=make), FSDP()) for name, make in refused().items()}
    for name, kind, precision in HALVES:
        for strategy in ("ddp", "fsdp"):
            runs[f"{name} {strategy}"] = lambda kind=kind, strategy=strategy, precision=precision: fit(
                kind(), strategy, precision=precision
            )
    runs["meta"] = lambda: fit(OnMeta(), FSDP(), max_epochs=1)
    results = {name: attempt(run) for name, run in runs.items() if not chosen or name in chosen}
    torch.save(results, folder / f"fsdp_{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
