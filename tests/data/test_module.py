from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, TensorDataset

from trainkit.data.module import DataModule
from trainkit.errors import CheckpointError, DataError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


class Sized(DataModule):
    def __init__(self, size=1):
        super().__init__()
        self.size = size


@pytest.mark.parametrize("name", ["train", "val", "test", "predict"])
def test_a_loader_that_is_not_defined_is_an_error_that_names_it(name):
    with pytest.raises(DataError, match=rf"Sized does not define {name}_dataloader\(self\)"):
        getattr(Sized(), f"{name}_dataloader")()


def test_from_datasets_shuffles_training_only():
    dataset = TensorDataset(torch.zeros(6, 2))
    data = Sized.from_datasets(dataset, val_dataset=dataset, test_dataset=[dataset, dataset], batch_size=4, size=3)
    assert data.size == 3
    train, val, tests = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    assert isinstance(train.sampler, RandomSampler)
    assert isinstance(val.sampler, SequentialSampler)
    assert [type(test) for test in tests] == [DataLoader, DataLoader]
    assert train.batch_size == val.batch_size == 4
    with pytest.raises(DataError, match="predict_dataloader"):
        data.predict_dataloader()


def test_from_datasets_takes_dicts_and_streams():
    data = DataModule.from_datasets({"a": range(3), "b": Stream()})
    loaders = data.train_dataloader()
    assert list(loaders) == ["a", "b"]
    assert len(list(loaders["b"])) == 3


def test_a_data_module_without_state_has_an_empty_one():
    assert DataModule().state_dict() == {}


def test_a_copy_does_not_carry_the_run_along():
    data = Sized.from_datasets(range(3), size=4)
    data.trainer = lambda: "cannot be pickled"
    twin = pickle.loads(pickle.dumps(data))
    assert twin.trainer is None
    assert twin.size == 4
    assert len(twin.train_dataloader()) == 3


class Wide(DataModule):
    def __init__(self, width, transform=None):
        super().__init__()
        self.save_hyperparameters()
        self.events = []

    def train_dataloader(self):
        return TinyData(1)

    def on_exception(self, exception):
        self.events.append(str(exception))

    def teardown(self, stage):
        self.events.append("teardown")


def test_a_data_module_is_rebuilt_from_a_checkpoint(tmp_path):
    trainer, module = quiet_trainer(), TinyModule(lr=0.5)
    trainer.fit(module, datamodule=Wide(3))
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    (tmp_path / "hparams.yaml").write_text("width: 7\n")

    assert dict(Wide.load_from_checkpoint(tmp_path / "a.ckpt").hparams) == {"width": 3, "transform": None}
    assert Wide.load_from_checkpoint(tmp_path / "a.ckpt", width=5).hparams.width == 5
    assert Wide.load_from_checkpoint(tmp_path / "a.ckpt", hparams_file=tmp_path / "hparams.yaml").hparams.width == 7
    assert dict(TinyModule.load_from_checkpoint(tmp_path / "a.ckpt").hparams) == dict(module.hparams)


def test_what_a_checkpoint_could_not_hold_of_it_has_to_be_passed_again(tmp_path):
    trainer = quiet_trainer(default_root_dir=tmp_path, enable_checkpointing=True)
    with pytest.warns(
        UserWarning, match=r"cannot hold these hyperparameters of Wide.*: transform\. .*transform=\.\.\."
    ):
        trainer.fit(TinyModule(), datamodule=Wide(3, transform=abs))
    path = trainer.checkpoint_callback.best_model_path
    with pytest.raises(CheckpointError, match="does not hold: transform"):
        Wide.load_from_checkpoint(path)
    assert Wide.load_from_checkpoint(path, transform=abs).hparams.transform is abs


def test_a_data_module_learns_of_an_exception_before_its_teardown():
    class Broken(TinyModule):
        def training_step(self, batch, batch_idx):
            raise ValueError("broken")

    data = Wide(3)
    with pytest.raises(ValueError, match="broken"):
        quiet_trainer().fit(Broken(), datamodule=data)
    assert data.events == ["broken", "teardown"]
