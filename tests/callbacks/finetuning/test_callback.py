from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit import TrainModule
from trainkit.callbacks import BackboneFinetuning, BaseFinetuning, Callback
from trainkit.callbacks.finetuning import freezing
from trainkit.errors import CheckpointError, ModuleError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Classifier(TrainModule):
    """A backbone with BatchNorm, and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.head = nn.Linear(3, 2)

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self.head(self.backbone(batch[0])), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD((p for p in self.parameters() if p.requires_grad), lr=0.1)


class Rates(Callback):
    """Notes the learning rate of each group at the start of each epoch."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, batch_idx):
        if batch_idx == 0:
            self.seen.append([round(group["lr"], 6) for group in trainer.optimizers[0].param_groups])


def test_a_backbone_is_frozen_at_first_and_joins_with_a_rate_that_grows_to_that_of_the_head():
    rates, module = Rates(), Classifier()
    before = module.backbone[0].weight.clone()
    quiet_trainer(max_epochs=1, callbacks=[BackboneFinetuning(2)]).fit(module, TinyData(2))
    assert torch.equal(module.backbone[0].weight, before)
    assert all(parameter.requires_grad for parameter in module.backbone[1].parameters()), "BatchNorm stays trained"

    callbacks = [BackboneFinetuning(2, lambda epoch: 4.0, backbone_initial_ratio_lr=0.1), rates]
    quiet_trainer(max_epochs=5, callbacks=callbacks).fit(module, TinyData(2))
    assert rates.seen == [[0.1], [0.1], [0.1, 0.01], [0.1, 0.04], [0.1, 0.1]]
    assert not torch.equal(module.backbone[0].weight, before)


def test_the_first_rate_may_be_given_and_may_pass_that_of_the_head():
    rates = Rates()
    callbacks = [BackboneFinetuning(0, lambda epoch: 3.0, backbone_initial_lr=0.05, should_align=False), rates]
    quiet_trainer(max_epochs=2, callbacks=callbacks).fit(Classifier(), TinyData(1))
    assert rates.seen == [[0.1, 0.05], [0.1, 0.15]]


def test_a_module_without_a_backbone_is_an_error():
    with pytest.raises(ModuleError, match="TinyModule has no attribute 'backbone'"):
        quiet_trainer(callbacks=[BackboneFinetuning()]).fit(TinyModule(), TinyData(1))


def test_a_finetuning_without_its_methods_is_an_error():
    with pytest.raises(ModuleError, match=r"BaseFinetuning does not define freeze_before_training\(self, module\)"):
        quiet_trainer(callbacks=[BaseFinetuning()]).fit(TinyModule(), TinyData(1))


def test_what_an_optimizer_has_already_is_not_added_again():
    module = Classifier()
    optimizer = torch.optim.SGD(module.head.parameters(), lr=0.1)
    freezing.freeze(module)
    with pytest.warns(UserWarning, match="2 parameters to be unfrozen are in SGD already"):
        freezing.unfreeze_and_add_param_group([module.head, module.backbone], optimizer)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 4]
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.01)


def test_freezing_spares_batchnorm_if_asked_to():
    module = Classifier()
    freezing.freeze(module, train_bn=True)
    assert [name for name, p in module.named_parameters() if p.requires_grad] == [
        "backbone.1.weight",
        "backbone.1.bias",
    ]
    freezing.freeze({"a": module}.values(), train_bn=False)
    assert not any(p.requires_grad for p in module.parameters())
    assert not module.backbone[1].track_running_stats
    freezing.make_trainable(module)
    assert list(freezing.filter_params(module, train_bn=False)) == [
        *module.backbone[0].parameters(),
        *module.head.parameters(),
    ]
    assert module.backbone[1].track_running_stats


def test_a_made_up_state_that_names_a_parameter_twice_is_refused(tmp_path):
    def trainer(epochs):
        return quiet_trainer(max_epochs=epochs, callbacks=[BackboneFinetuning(5)], default_root_dir=tmp_path)

    begun = trainer(1)
    begun.fit(Classifier(), TinyData(1))
    begun.save_checkpoint(tmp_path / "forged.ckpt")
    checkpoint = torch.load(tmp_path / "forged.ckpt")
    checkpoint["callbacks"]["BackboneFinetuning"]["finetuning"]["groups"][0] *= 2
    torch.save(checkpoint, tmp_path / "forged.ckpt")
    with pytest.raises(CheckpointError, match=r"finetuning\.groups: .*more than one parameter group"):
        trainer(2).fit(Classifier(), TinyData(1), ckpt_path=tmp_path / "forged.ckpt")
