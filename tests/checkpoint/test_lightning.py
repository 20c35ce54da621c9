from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.callbacks import EarlyStopping
from trainkit.checkpoint.lightning import from_lightning, is_from_lightning
from trainkit.data import DataModule
from trainkit.progress import Progress
from trainkit.storage.files import read_checkpoint
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer

# Written by Lightning 2.6.6: the module below, 5 batches an epoch, validated at its end; the last file after 3 epochs.
DATA = Path(__file__).parent / "data"
EPOCH_END = DATA / "lightning-2.6.6-epoch-end.ckpt"  # after epoch 0
MID_EPOCH = DATA / "lightning-2.6.6-mid-epoch.ckpt"  # after 9 batches
FINAL = DATA / "lightning-2.6.6-final.ckpt"


class Module(TinyModule):
    """What wrote the files, in trainkit."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


def progress_in(path: Path) -> Progress:
    progress = Progress()
    progress.load_state_dict(from_lightning(read_checkpoint(path))["loops"]["fit"])
    return progress


def test_lightnings_checkpoints_are_known_from_ours(tmp_path: Path) -> None:
    trainer = quiet_trainer()
    trainer.fit(Module(), TinyData(1))
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    assert is_from_lightning(read_checkpoint(EPOCH_END))
    assert not is_from_lightning(read_checkpoint(tmp_path / "own.ckpt"))


def test_counters_are_read_where_they_mean_the_same() -> None:
    expected = {
        EPOCH_END: Progress(epoch=0, batch=5, is_last=True, epoch_ended=True, global_step=5, total_batches=5),
        MID_EPOCH: Progress(epoch=1, batch=4, global_step=9, total_batches=9),
        FINAL: Progress(epoch=3, global_step=15),
    }
    for path, progress in expected.items():
        progress.mark_validation()  # nothing that the run has behind it is due
        assert progress_in(path) == progress


@pytest.mark.parametrize("path", [EPOCH_END, MID_EPOCH])
def test_a_fit_continues_where_lightning_stopped(path: Path) -> None:
    module = Module(seed=1)
    trainer = quiet_trainer(max_epochs=3, num_sanity_val_steps=0)
    trainer.fit(module, TinyData(5), TinyData(2, seed=1), ckpt_path=path)

    assert (trainer.current_epoch, trainer.global_step) == (3, 15)
    assert_same_weights(module, Module.load_from_checkpoint(FINAL), atol=1e-6)
    assert trainer.lr_scheduler_configs[0].scheduler.get_last_lr() == [pytest.approx(0.1 * 0.5**3)]


@pytest.mark.filterwarnings("ignore:nothing is left to train:UserWarning")
def test_callbacks_take_over_what_lightnings_remembered() -> None:
    saved = read_checkpoint(EPOCH_END)["callbacks"]
    (remembered,) = (state for key, state in saved.items() if key.startswith("EarlyStopping"))
    stopping = EarlyStopping("val/loss", patience=2)

    quiet_trainer(callbacks=[stopping]).fit(Module(), TinyData(5), TinyData(2, seed=1), ckpt_path=EPOCH_END)

    assert stopping.best_score == remembered["best_score"] < float("inf")
    assert stopping.patience == 2, "arguments given in code hold"


def test_weights_and_hyperparameters_build_a_module() -> None:
    module = Module.load_from_checkpoint(FINAL, lr=0.5)
    assert dict(module.hparams)["lr"] == 0.5
    assert torch.equal(module.layer.weight, read_checkpoint(FINAL)["state_dict"]["layer.weight"])


def test_evaluation_takes_lightnings_weights() -> None:
    (result,) = quiet_trainer().test(Module(), TinyData(2), ckpt_path=FINAL, verbose=False)
    (expected,) = quiet_trainer().test(Module.load_from_checkpoint(FINAL), TinyData(2), verbose=False)
    assert result == expected


def test_several_optimizers_count_batches_and_not_their_steps() -> None:
    manual = read_checkpoint(MID_EPOCH)
    loop = manual["loops"]["fit_loop"]
    loop["epoch_loop.manual_optimization.optim_step_progress"]["total"] = {"ready": 18, "completed": 18}
    manual["global_step"] = 18
    assert from_lightning(manual)["loops"]["fit"]["global_step"] == 9


def test_the_scaler_of_mixed_precision_comes_along() -> None:
    scale = {"scale": 128.0, "growth_factor": 2.0}
    checkpoint = {**read_checkpoint(FINAL), "MixedPrecision": scale}
    assert from_lightning(checkpoint)["trainkit"]["precision"] == scale


class Data(DataModule):
    """Counts what it has prepared."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared = 0

    def train_dataloader(self) -> Any:
        return TinyData(5)

    def state_dict(self) -> dict[str, Any]:
        return {"prepared": self.prepared}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.prepared = state_dict["prepared"]


@pytest.mark.parametrize("path", [EPOCH_END, MID_EPOCH])
def test_the_state_of_a_data_module_comes_along(path: Path, tmp_path: Path) -> None:
    # Lightning keeps it by the name of the class.
    torch.save(read_checkpoint(path) | {"Data": {"prepared": 7}}, tmp_path / "a.ckpt")
    data = Data()
    quiet_trainer(max_epochs=2).fit(Module(), datamodule=data, ckpt_path=tmp_path / "a.ckpt")
    assert data.prepared == 7
