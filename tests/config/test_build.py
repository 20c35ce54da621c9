from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import trainkit as tk
from trainkit.config import build, from_config, read
from trainkit.errors import ConfigError
from trainkit.interval import Interval

Write = Callable[[str], str]
HERE = __name__


class Net(tk.TrainModule):
    def __init__(self, width: int, backbone: nn.Module | None = None, sizes: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1)
        self.backbone = backbone
        self.sizes = sizes

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).mean()


class Data(tk.DataModule):
    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.size = size


class CountBatches:
    def __init__(self, every: int = 1) -> None:
        self.every = every

    def on_train_batch_end(self, batch_idx: int) -> None: ...


BASE = f"""
    seed: 7
    module: {{_target_: {HERE}.Net, width: 3}}
    data: {{_target_: {HERE}.Data, size: 8}}
    trainer: {{max_epochs: 2, logger: false, enable_checkpointing: false, enable_progress_bar: false}}
    callbacks:
      early_stopping: {{monitor: val/loss, patience: 5}}
      stop_late: {{use: early_stopping, monitor: val/accuracy, mode: max}}
      count: {{_target_: {HERE}.CountBatches, every: 3}}
"""


def test_objects_have_the_arguments_that_were_written(write_config: Write) -> None:
    trainer, module, data = from_config(write_config(BASE), ["module.sizes=[1, 2]", "data.size=16"])

    assert trainer.max_epochs == 2
    assert isinstance(module, Net)
    assert (module.layer.in_features, module.sizes) == (3, (1, 2))
    assert isinstance(data, Data)
    assert data.size == 16
    by_loss, by_accuracy = (c for c in trainer.callbacks if isinstance(c, tk.callbacks.EarlyStopping))
    assert (by_loss.monitor, by_loss.patience, by_accuracy.monitor) == ("val/loss", 5, "val/accuracy")
    assert [callback.every for callback in trainer.callbacks if isinstance(callback, CountBatches)] == [3]


def test_null_disables_a_callback(write_config: Write) -> None:
    trainer, _, _ = from_config(write_config(BASE), ["callbacks.early_stopping=null", "callbacks.count=null"])

    assert not [callback for callback in trainer.callbacks if isinstance(callback, CountBatches)]
    (stopping,) = (callback for callback in trainer.callbacks if isinstance(callback, tk.callbacks.EarlyStopping))
    assert stopping.monitor == "val/accuracy"


def test_seed_makes_weights_equal(write_config: Write) -> None:
    path = write_config(BASE)
    torch.manual_seed(1)
    first = from_config(path)[1]
    torch.manual_seed(2)
    second = from_config(path)[1]

    assert torch.equal(first.layer.weight, second.layer.weight)


def test_data_may_be_left_to_the_module(write_config: Write) -> None:
    run = build(read(write_config(BASE), ["~data", "ckpt_path=last"]))

    assert run.datamodule is None
    assert run.ckpt_path == "last"


def test_arguments_may_be_objects_too(write_config: Write) -> None:
    backbone = "module.backbone={_target_: torch.nn.Sequential}"
    module = from_config(write_config(BASE), [backbone])[1]

    assert isinstance(module.backbone, nn.Sequential)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["module.widht=4"], "unknown argument of Net 'widht'.*override module.widht=4.*did you mean 'width'"),
        (["~module.width"], "module lacks 'width', which Net needs.*config.yaml: module"),
        (["module.width=wide"], "module.width='wide' is not usable.*allowed +width: int, says Net"),
        (["~module._target_"], "module does not say of which class it is.*a subclass of TrainModule"),
        (["~module._target_", "+module.class=m.Net"], "module does not say .*write +module: {_target_: m.Net"),
        (["module=m.Net"], "module='m.Net' is not usable.*write +module: {_target_: m.Net"),
        ([f"module._target_={HERE}.Data"], "Data.*allowed +a subclass of TrainModule"),
        ([f"data._target_={HERE}.Net"], "Net.*allowed +a subclass of DataModule"),
        ([f"module._target_={HERE}.Nett"], "unknown name in .*'Nett'.*did you mean 'Net'"),
        (["module.backbone={_target_: torch.optim.Adam}"], "module.backbone lacks 'params', which Adam needs"),
        (["module.backbone={_target_: torch.device, device: cpu}"], "module.backbone=.*is not usable"),
        (["data.sise=4"], "unknown argument of Data 'sise'.*did you mean 'size'"),
        (["trainer.max_epoch=4"], "unknown argument of Trainer 'max_epoch'.*override.*did you mean 'max_epochs'"),
        (["trainer.max_epochs=many"], "trainer.max_epochs='many' is not usable.*allowed +max_epochs: int"),
        (["trainer.limit_val_batches=1.5"], "limit_val_batches"),
        (["trainer.callbacks=[]"], "callbacks are a section of their own.*write +callbacks:"),
        (["callbacks.early_stoping={monitor: a}"], "unknown callback 'early_stoping'.*did you mean 'early_stopping'"),
        (["callbacks.count.use=early_stopping"], "unknown argument of CountBatches 'use'"),
        (["callbacks.early_stopping.patiense=3"], "unknown argument of EarlyStopping.*did you mean 'patience'"),
        (["~callbacks.early_stopping.monitor"], "callbacks.early_stopping lacks 'monitor'"),
        (["callbacks.early_stopping.patience=-1"], "patience"),
        (["callbacks.count={_target_: collections.OrderedDict}"], "allowed +a class with methods named after hooks"),
    ],
)
def test_what_is_wrong_is_named(write_config: Write, overrides: list[str], message: str) -> None:
    path = write_config(BASE)

    with pytest.raises(ConfigError, match=f"(?s){message}"):
        from_config(path, overrides)


def test_refusal_by_the_trainer_names_the_section(write_config: Write) -> None:
    with pytest.raises(ConfigError, match="overfit_batches") as caught:
        from_config(write_config(BASE), ["trainer.overfit_batches=-1"])

    assert caught.value.__notes__ == ["    in           config.yaml: trainer, with trainer.overfit_batches=-1"]


def test_intervals_may_have_units(write_config: Write) -> None:
    text = BASE.replace(
        "count: {",
        "save: {use: model_checkpoint, every: 30 min, save_top_k: 0}\n      count: {",
    ).replace("enable_checkpointing: false, ", "")
    overrides = ["trainer.val_check_interval=500 steps", "trainer.log_every_n_steps=10k samples", "trainer.max_time=2h"]
    trainer, _, _ = from_config(write_config(text), overrides)
    assert trainer.arguments.data.validate_every == Interval(500, "steps")
    assert trainer.arguments.output.log_every == Interval(10_000, "samples")
    assert trainer.arguments.stop.max_time == "2h"
    with pytest.raises(ConfigError, match=r"(?s)every='30 mni'.*Did you mean '30 min'"):
        from_config(write_config(text.replace("30 min", "30 mni")))
