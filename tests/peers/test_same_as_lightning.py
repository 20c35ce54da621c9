"""Both train the same module on the same batches with the same seed: equal weights, equal logged values."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

import trainkit.compat.lightning as own_pl
from trainkit.testing import assert_same_state

Arguments = dict[str, Any]


def data(samples: int, seed: int = 0, **options: Any) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 4, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :2].cumsum(1)), batch_size=4, **options)


def loss_of(module: Any, batch: Any) -> Any:
    return nn.functional.mse_loss(module(batch[0]), batch[1])


def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
    loss = loss_of(self, batch)
    self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
    self.log("index", float(batch_idx), on_step=False, on_epoch=True, reduce_fx="max")
    return loss


def validation_step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
    self.log("val_loss", loss_of(self, batch))
    self.log("val_sum", batch[0].sum(), reduce_fx="sum")


def test_step(self: Any, batch: Any, batch_idx: int) -> None:
    self.log_dict({"test_loss": loss_of(self, batch), "test_max": batch[0].max()})


test_step.__test__ = False  # type: ignore[attr-defined]  # a method of the module, and no test


def sgd(self: Any) -> Any:
    return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


@dataclass
class Case:
    """A run.

    Attributes:
        methods: Methods of the module that differ from the usual ones.
        arguments: Arguments of the Trainer.
        train: Makes the training loader.
        val: Makes the validation loaders.
        callbacks: Makes the callbacks of either package.
        differs: What trainkit has differently, on purpose.
    """

    methods: Arguments = field(default_factory=dict)
    arguments: Arguments = field(default_factory=dict)
    train: Callable[[], Any] = lambda: data(24)
    val: Callable[[], Any] = lambda: data(10, seed=1)
    callbacks: Callable[[Any], list[Any]] = lambda pl: []
    differs: tuple[str, ...] = ()


def with_scheduler(scheduler: Callable[[Any, Any], Any], **config: Any) -> Callable[[Any], Any]:
    def configure_optimizers(self: Any) -> Any:
        optimizer = sgd(self)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler(self, optimizer), **config}}

    return configure_optimizers


def skips_odd_batches(self: Any, batch: Any, batch_idx: int) -> Any:
    return None if batch_idx % 2 else training_step(self, batch, batch_idx)


def drops_out(self: Any, x: Any) -> Any:
    return self.layers(nn.functional.dropout(x, 0.5, self.training))


def steps_by_hand(self: Any, batch: Any, batch_idx: int) -> None:
    first, second = self.optimizers()
    for optimizer in (first, second):
        self.toggle_optimizer(optimizer)
        loss = loss_of(self, batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        optimizer.step()
        self.untoggle_optimizer(optimizer)
    if self.trainer.is_last_batch:
        for scheduler in self.lr_schedulers():
            scheduler.step()
    self.log("loss", loss)


def two_optimizers(self: Any) -> Any:
    optimizers = [torch.optim.SGD(self.layers[0].parameters(), 0.1), torch.optim.Adam(self.layers[2].parameters())]
    return optimizers, [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5) for optimizer in optimizers]


def warms_up(self: Any, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any) -> None:
    optimizer.step(closure=optimizer_closure)
    for group in optimizer.param_groups:
        group["lr"] = 0.05 * min(1.0, (self.trainer.global_step + 1) / 4)


def stops_early(self: Any) -> None:
    if self.current_epoch == 1:
        self.trainer.should_stop = True


def steps_every_second_batch(self: Any, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any) -> None:
    if batch_idx % 2:
        optimizer_closure()
    else:
        optimizer.step(closure=optimizer_closure)


def steps_with_a_closure(self: Any, batch: Any, batch_idx: int) -> Any:
    optimizer = self.optimizers()

    def closure() -> Any:
        loss = loss_of(self, batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        return loss

    self.log("loss", optimizer.step(closure=closure))


def halves_gradients(self: Any, optimizer: Any) -> None:
    for parameter in self.parameters():
        parameter.grad.mul_(0.5)


def trains_on_both(self: Any, batch: Any, batch_idx: int) -> Any:
    loss = loss_of(self, batch["a"]) + loss_of(self, batch["b"])
    self.log("loss", loss, batch_size=1)
    return loss


def keeps_outputs(self: Any, batch: Any, batch_idx: int) -> Any:
    loss = loss_of(self, batch)
    self.outputs = [*getattr(self, "outputs", []), loss.detach()]
    return {"loss": loss, "size": len(batch[0])}


def logs_outputs(self: Any) -> None:
    self.log_dict({"mean": torch.stack(self.outputs).mean(), "count": float(len(self.outputs))})
    self.outputs = []


class Noam(torch.optim.lr_scheduler.LRScheduler):
    def get_lr(self) -> Any:
        return [0.1 * min(self._step_count**-0.5, self._step_count / 8) for _ in self.base_lrs]


class Rows(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(data(22).dataset)


def logging_callback(pl: Any) -> list[Any]:
    class Logs(pl.Callback):  # type: ignore[misc]  # either package's
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.log("from callback", outputs["loss"])

        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            pl_module.log("validations", float(trainer.current_epoch))

    return [Logs(), pl.callbacks.LearningRateMonitor("step")]


CASES = {
    "plain": Case(),
    "adam": Case({"configure_optimizers": lambda self: torch.optim.AdamW(self.parameters(), 0.01)}),
    "shuffled": Case(train=lambda: data(24, shuffle=True)),
    "dropout": Case({"forward": drops_out}, train=lambda: data(24, shuffle=True)),
    "no validation": Case(val=lambda: None),
    "two validation sets": Case(val=lambda: [data(8), data(6, seed=2)]),
    # The row of an update has the mean of its batches, and not the value of the last one.
    "accumulation": Case(arguments={"accumulate_grad_batches": 3}, differs=("rows", "logged_metrics")),
    "norm clipping": Case(arguments={"gradient_clip_val": 0.3}),
    "value clipping": Case(arguments={"gradient_clip_val": 0.02, "gradient_clip_algorithm": "value"}),
    "bf16-mixed": Case(arguments={"precision": "bf16-mixed"}),
    "64-true": Case(arguments={"precision": "64-true"}),
    # An epoch that was left in the middle is not complete, and goes on in the next fit.
    "max_steps": Case(arguments={"max_steps": 8, "max_epochs": -1}, differs=("epochs",)),
    "limits": Case(arguments={"limit_train_batches": 0.5, "limit_val_batches": 1}),
    "overfit_batches": Case(arguments={"overfit_batches": 2}, train=lambda: data(24, shuffle=True)),
    "validation in mid-epoch": Case(arguments={"val_check_interval": 0.5}),
    "validation every second epoch": Case(arguments={"check_val_every_n_epoch": 2}),
    "validation across epochs": Case(arguments={"val_check_interval": 4, "check_val_every_n_epoch": None}),
    "epoch schedule": Case(
        {"configure_optimizers": with_scheduler(lambda _, opt: torch.optim.lr_scheduler.StepLR(opt, 1, 0.5))}
    ),
    "step schedule": Case(
        {
            "configure_optimizers": with_scheduler(
                lambda module, opt: torch.optim.lr_scheduler.OneCycleLR(
                    opt, 0.1, total_steps=int(module.trainer.estimated_stepping_batches)
                ),
                interval="step",
            )
        }
    ),
    "plateau schedule": Case(
        {
            "configure_optimizers": with_scheduler(
                lambda _, opt: torch.optim.lr_scheduler.ReduceLROnPlateau(opt, patience=0, threshold=0.5),
                monitor="val_loss",
            )
        }
    ),
    "lbfgs": Case({"configure_optimizers": lambda self: torch.optim.LBFGS(self.parameters(), 0.1, max_iter=4)}),
    "warm-up by hand": Case({"optimizer_step": warms_up}),
    # A batch that was skipped is no step, and has no row.
    "skipped batches": Case({"training_step": skips_odd_batches}, differs=("rows", "updates")),
    "manual optimization": Case(
        {
            "training_step": steps_by_hand,
            "configure_optimizers": two_optimizers,
            "automatic_optimization": property(lambda self: False),
        }
    ),
    "should_stop": Case({"on_train_epoch_end": stops_early}),
    "batch norm": Case(
        {"forward": lambda self, x: self.layers(self.norm(x)), "normalises": True},
        train=lambda: data(24, shuffle=True),
    ),
    "samples by weight": Case(train=lambda: data(24, sampler=WeightedRandomSampler([1.0] * 12 + [3.0] * 12, 24))),
    "a stream": Case(train=lambda: DataLoader(Rows(), batch_size=4)),
    "two training sets": Case({"training_step": trains_on_both}, train=lambda: {"a": data(24), "b": data(9, seed=3)}),
    "outputs kept by hand": Case({"training_step": keeps_outputs, "on_train_epoch_end": logs_outputs}),
    "gradients changed by hand": Case({"on_before_optimizer_step": halves_gradients}),
    # An update is what changed the weights.
    "a step every second batch": Case({"optimizer_step": steps_every_second_batch}, differs=("updates", "rows")),
    "a closure by hand": Case(
        {"training_step": steps_with_a_closure, "automatic_optimization": property(lambda self: False)}
    ),
    "a schedule of one's own": Case(
        {"configure_optimizers": with_scheduler(lambda _, opt: Noam(opt), interval="step")}
    ),
    "callbacks that log": Case(callbacks=logging_callback),
    "accumulation by epoch": Case(
        callbacks=lambda pl: [pl.callbacks.GradientAccumulationScheduler({1: 2, 2: 3})],
        differs=("rows", "logged_metrics"),
    ),
    "weight averaging": Case(callbacks=lambda pl: [pl.callbacks.WeightAveraging()]),
    "exponential averaging": Case(callbacks=lambda pl: [pl.callbacks.EMAWeightAveraging(decay=0.9)]),
    "stochastic weight averaging": Case(
        {"configure_optimizers": with_scheduler(lambda _, opt: torch.optim.lr_scheduler.StepLR(opt, 1, 0.5))},
        callbacks=lambda pl: [pl.callbacks.StochasticWeightAveraging(0.02, 2, annealing_epochs=2)],
    ),
    "backbone finetuning": Case(
        {
            "configure_optimizers": lambda self: torch.optim.SGD(
                filter(lambda p: p.requires_grad, self.parameters()), 0.1
            )
        },
        callbacks=lambda pl: [pl.callbacks.BackboneFinetuning(1, lambda epoch: 1.5)],
    ),
    "sanity check": Case({"forward": drops_out}, {"num_sanity_val_steps": 2}, lambda: data(24, shuffle=True)),
}


def run(pl: Any, case: Case, root: Path) -> Arguments:
    """Fit, validate, test and predict with ``pl``, and return all that there is to compare."""

    class Module(pl.LightningModule):  # type: ignore[misc]  # either package's
        normalises = False

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
            if self.normalises:
                self.norm = nn.BatchNorm1d(4)

        @property
        def backbone(self) -> Any:
            return self.layers[0]

        def forward(self, x: Any) -> Any:
            return self.layers(x)

        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            return self(batch[0])

    usual = {
        "training_step": training_step,
        "validation_step": validation_step,
        "test_step": test_step,
        "configure_optimizers": sgd,
    }
    for name, method in (usual | case.methods).items():
        setattr(Module, name, method)
    pl.seed_everything(3)
    module = Module()
    arguments: Arguments = {
        "accelerator": "cpu",
        "max_epochs": 3,
        "num_sanity_val_steps": 0,
        "logger": pl.loggers.CSVLogger(root, name="", version="run"),
        "log_every_n_steps": 2,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": root,
    }
    trainer = pl.Trainer(callbacks=case.callbacks(pl), **(arguments | case.arguments))
    trainer.fit(module, case.train(), case.val())
    found: Arguments = {
        "weights": module.state_dict(),
        "learning rates": [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups],
        "callback_metrics": dict(trainer.callback_metrics),
        "logged_metrics": {name: value for name, value in trainer.logged_metrics.items() if name != "epoch"},
        "epochs": trainer.current_epoch,
        "rows": rows(root / "run" / "metrics.csv"),
    }
    if module.automatic_optimization:
        found["updates"] = trainer.global_step
    found["validated"] = trainer.validate(module, data(6), verbose=False)
    found["tested"] = trainer.test(module, data(6), verbose=False)
    found["predicted"] = trainer.predict(module, data(6))
    return found


def rows(path: Path) -> list[Arguments]:
    """Return the rows of the table, but for their steps: trainkit counts updates, from 1."""
    table = list(csv.DictReader(path.read_text().splitlines()))
    numbers = [{name: torch.tensor(float(cell)) for name, cell in row.items() if cell} for row in table]
    return [{name: row[name] for name in sorted(row) if name != "step"} for row in numbers]


@pytest.mark.parametrize("name", CASES)
def test_training_gives_what_lightning_gives(name: str, lightning: Any, tmp_path: Path) -> None:
    case = CASES[name]
    own = run(own_pl, case, tmp_path / "own")
    theirs = run(lightning, case, tmp_path / "theirs")
    for what in case.differs:
        del own[what], theirs[what]
    assert_same(own, theirs)


def test_lightning_loads_our_weights_and_hyperparameters(lightning: Any, tmp_path: Path) -> None:
    def module_of(pl: Any) -> type:
        class Module(pl.LightningModule):  # type: ignore[misc]  # either package's
            def __init__(self, width: int = 4) -> None:
                super().__init__()
                self.save_hyperparameters()
                self.layers = nn.Linear(4, width)

            def forward(self, x: Any) -> Any:
                return self.layers(x)

            training_step = training_step
            configure_optimizers = sgd

        return Module

    own = module_of(own_pl)(width=2)
    trainer = own_pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.fit(own, data(8))

    theirs = module_of(lightning).load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
    assert theirs.hparams.width == 2
    assert_same_state(dict(theirs.state_dict()), dict(own.state_dict()))


AVERAGED = {
    "mean": lambda pl: pl.callbacks.WeightAveraging(),
    "exponential mean": lambda pl: pl.callbacks.EMAWeightAveraging(decay=0.9),
    "mean of epochs": lambda pl: pl.callbacks.StochasticWeightAveraging(0.02, 2, annealing_epochs=2),
    "finetuning": lambda pl: pl.callbacks.BackboneFinetuning(1, lambda epoch: 1.5),
    "timer": lambda pl: pl.callbacks.Timer({"hours": 1}),
}


@pytest.mark.parametrize("name", AVERAGED)
def test_a_fit_goes_on_with_what_lightnings_callbacks_remembered(name: str, lightning: Any, tmp_path: Path) -> None:
    def fit(pl: Any, epochs: int, ckpt_path: str | None = None) -> Any:
        class Module(pl.LightningModule):  # type: ignore[misc]  # either package's
            def __init__(self) -> None:
                super().__init__()
                self.backbone, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

            def forward(self, x: Any) -> Any:
                return self.head(self.backbone(x).tanh())

            training_step = training_step

            def configure_optimizers(self) -> Any:
                optimizer = torch.optim.SGD(filter(lambda p: p.requires_grad, self.parameters()), 0.05, momentum=0.9)
                return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)]

        pl.seed_everything(1)
        module = Module()
        checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            callbacks=[AVERAGED[name](pl), checkpoint],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data(12), ckpt_path=ckpt_path)
        return module

    whole = fit(lightning, 5)
    resumed = fit(own_pl, 5, str(tmp_path / "epoch=2.ckpt"))
    assert_same_state(dict(resumed.state_dict()), dict(whole.state_dict()), atol=1e-6)


def assert_same(own: Any, theirs: Any, where: str = "") -> None:
    """Compare two nested values; numbers to 1e-6 of their size, tensors of one dtype."""
    if isinstance(theirs, dict):
        assert sorted(own) == sorted(theirs), where
        for key in theirs:
            assert_same(own[key], theirs[key], f"{where}[{key!r}]")
    elif isinstance(theirs, list):
        assert len(own) == len(theirs), where
        for index, (one, other) in enumerate(zip(own, theirs, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    elif isinstance(theirs, torch.Tensor) and theirs.ndim:
        assert_same_state(own, theirs, atol=1e-6, where=where)
    else:
        assert float(own) == pytest.approx(float(theirs), rel=1e-5, abs=1e-6), where
