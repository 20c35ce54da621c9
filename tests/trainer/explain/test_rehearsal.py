"""A fit that is only explained leaves nothing behind."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from trainkit import Trainer
from trainkit.callbacks import EarlyStopping
from trainkit.errors import ConfigError
from trainkit.testing import TinyData, TinyModule, assert_same_state, quiet_trainer


class Scheduled(TinyModule):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01, weight_decay=0.2)
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=total)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


@pytest.mark.filterwarnings("ignore:nothing is left to train")
def test_nothing_remains_of_an_explanation(tmp_path: Path) -> None:
    """Neither files, nor random numbers, weights, counters and metrics; and the fit that follows is as without one."""
    x, y = torch.randn(24, 4), torch.randn(24, 2)

    def fit(*, explains: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        torch.manual_seed(3)
        loader = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True)
        module = Scheduled()
        folder = tmp_path / f"explained_{explains}"
        trainer = Trainer(
            max_epochs=2,
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
        )
        if explains:
            weights, drawn = copy.deepcopy(module.state_dict()), torch.get_rng_state()
            trainer.explain(module, loader, loader)
            assert not folder.exists()
            assert_same_state(module.state_dict(), weights)
            assert torch.equal(torch.get_rng_state(), drawn)
            assert (trainer.global_step, trainer.callback_metrics) == (0, {})
        trainer.fit(module, loader, loader)
        metrics = {name: value.clone() for name, value in trainer.callback_metrics.items()}
        if explains:  # of a Trainer that has trained
            state = trainer.dump_checkpoint()
            trainer.explain(TinyModule(), loader)
            assert trainer.module is module
            assert trainer.callback_metrics == metrics and trainer.global_step == 12
            assert_same_state(trainer.dump_checkpoint()["optimizer_states"], state["optimizer_states"])
        return dict(module.state_dict()), metrics

    (weights, metrics), (explained_weights, explained_metrics) = fit(explains=False), fit(explains=True)
    assert_same_state(explained_weights, weights)
    assert explained_metrics == metrics


def test_an_error_of_the_preparation_is_raised_and_all_plugins_are_back() -> None:
    trainer = quiet_trainer(max_epochs=1, callbacks=[EarlyStopping("val/loss")])
    before = trainer.hooks.plugins
    with pytest.raises(ConfigError):
        trainer.explain(TinyModule(), TinyData(2), val_dataloaders=TinyData(1), ckpt_path="")
    assert [plugin for plugin in trainer.hooks.plugins if plugin[0] != "TinyModule"] == before
