from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import trainkit.compat.lightning as pl
from trainkit.errors import ModuleError, NotAttachedError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Module(pl.LightningModule, TinyModule):
    """A module in Lightning's words, with one optimizer."""


class Adversaries(pl.LightningModule):
    """Two optimizers, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.one, self.other = nn.Linear(4, 2), nn.Linear(4, 2)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers = self.optimizers()
        with self.toggled_optimizer(optimizers[0]):
            self.required = [parameter.requires_grad for parameter in self.parameters()]
        self.wrapped, self.bare = optimizers, self.optimizers(use_pl_optimizer=False)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.one.parameters(), 0.1), torch.optim.Adam(self.other.parameters())


@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_optimizers_are_wrapped_or_bare_as_lightnings_argument_says() -> None:
    module = Adversaries()
    quiet_trainer().fit(module, TinyData(1))
    assert [type(optimizer) for optimizer in module.bare] == [torch.optim.SGD, torch.optim.Adam]
    assert all(type(optimizer) is pl.core.optimizer.LightningOptimizer for optimizer in module.wrapped)
    assert [optimizer.optimizer for optimizer in module.wrapped] == module.bare
    assert isinstance(module.wrapped[0], torch.optim.SGD)


@pytest.mark.filterwarnings("ignore:epoch . has made no update")
def test_a_toggled_optimizer_is_the_only_one_whose_parameters_need_gradients() -> None:
    module = Adversaries()
    quiet_trainer().fit(module, TinyData(1))
    assert module.required == [True, True, False, False]
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("name", ["training_epoch_end", "validation_epoch_end", "test_epoch_end"])
def test_hooks_that_lightning_removed_are_refused_with_what_took_their_place(name: str) -> None:
    module = type("Old", (Module,), {name: lambda self, outputs: None})()
    with pytest.raises(ModuleError, match=f"use on_{name.replace('training', 'train')}"):
        quiet_trainer().fit(module, TinyData(1))


def test_loading_takes_lightnings_arguments(tmp_path: Path) -> None:
    trainer = quiet_trainer()
    trainer.fit(Module(lr=0.5), TinyData(1))
    path, hparams = tmp_path / "module.ckpt", tmp_path / "hparams.yaml"
    trainer.save_checkpoint(path)
    hparams.write_text("lr: 0.25\n")
    assert Module.load_from_checkpoint(path, weights_only=False).lr == 0.5
    assert Module.load_from_checkpoint(path, "cpu", hparams).lr == 0.25
    assert Module.load_from_checkpoint(checkpoint_path=path, hparams_file=hparams, lr=0.75).lr == 0.75


def test_loading_tells_the_module_under_any_name(tmp_path: Path) -> None:
    class Remembers(Module):
        def on_save_checkpoint(self, ckpt: dict[str, Any]) -> None:
            ckpt["memory"] = 3

        def on_load_checkpoint(self, ckpt: dict[str, Any]) -> None:
            self.memory = ckpt["memory"]

    trainer = quiet_trainer()
    trainer.fit(Remembers(), TinyData(1))
    trainer.save_checkpoint(tmp_path / "module.ckpt")
    assert Remembers.load_from_checkpoint(tmp_path / "module.ckpt").memory == 3
    assert Module.load_from_checkpoint(tmp_path / "module.ckpt").lr == 0.1, "a stub takes it too"


def test_a_module_says_which_of_it_is_evaluated_in_train_mode() -> None:
    seen = []

    class Uncertain(Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout, self.frozen = nn.Dropout(0.5), nn.BatchNorm1d(2).eval()

        def modes(self) -> list[bool]:
            return [self.training, self.dropout.training, self.frozen.training]

        def on_validation_model_eval(self) -> None:
            super().on_validation_model_eval()
            self.dropout.train()

        def on_validation_model_train(self) -> None:
            super().on_validation_model_train()
            seen.append(("back", self.modes()))

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            seen.append(("validation", self.modes()))

        def test_step(self, batch: Any, batch_idx: int) -> None:
            seen.append(("test", self.modes()))

    trainer, module = quiet_trainer(), Uncertain()
    trainer.fit(module, TinyData(1), TinyData(1))
    trainer.test(module, TinyData(1), verbose=False)
    assert seen == [
        ("validation", [False, True, False]),
        ("back", [True, True, False]),
        ("test", [False, False, False]),
    ]


def test_lightnings_former_name_of_configure_model_still_works() -> None:
    class Sharded(pl.LightningModule):
        def configure_sharded_model(self) -> None:
            self.layer = nn.Linear(4, 2)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch[0]).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    module = Sharded()
    quiet_trainer().fit(module, TinyData(1))
    assert hasattr(module, "layer")


def test_a_trainer_may_be_attached_by_hand() -> None:
    module = Module()
    module.trainer = trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    assert module.trainer is trainer
    module.trainer = None
    with pytest.raises(NotAttachedError):
        module.trainer  # noqa: B018


def test_the_device_is_no_gpu_here() -> None:
    assert Module().on_gpu is False


class SaysWeight(Module):
    """Returns weights of samples under the key that trainkit has a meaning for."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if len(batch[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {"loss": self.loss(batch), "weight": torch.full((len(batch[0]), 1), 4.0)}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.outputs = outputs


@pytest.mark.filterwarnings("ignore:out of memory")
@pytest.mark.parametrize("arguments", [{}, {"accumulate_grad_batches": "auto"}], ids=str)
def test_a_weight_beside_the_loss_is_the_users_own(arguments: dict[str, Any]) -> None:
    batch_size = 8 if arguments else 3
    plain, module = TinyModule(), SaysWeight()
    quiet_trainer().fit(plain, TinyData(2, batch_size))
    quiet_trainer(**arguments).fit(module, TinyData(2, batch_size))
    torch.testing.assert_close(dict(module.named_parameters()), dict(plain.named_parameters()))
    assert module.outputs["weight"].shape == (batch_size, 1)
