from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from trainkit.callbacks import Callback, ModelCheckpoint
from trainkit.errors import DataError
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer

BY_SAMPLES = {"log_every_n_steps": "5 samples"}


def samples_after(batches: Any, module: TinyModule | None = None, **arguments: Any) -> list[int]:
    recorder = Recorder(only=["on_train_batch_end"], look=lambda trainer, module: trainer.progress.samples)
    trainer = quiet_trainer(callbacks=[recorder], **(BY_SAMPLES | arguments))
    trainer.fit(module or TinyModule(), batches)
    found: list[int] = recorder.seen("on_train_batch_end")
    return found


def test_samples_are_counted_with_their_batch() -> None:
    class Looks(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert self.trainer.progress.samples == 3 * batch_idx
            return super().training_step(batch, batch_idx)

    assert samples_after(TinyData(3, last_batch_size=1), Looks()) == [3, 6, 7]


def test_nobody_counts_where_nobody_asks() -> None:
    assert samples_after(TinyData(2), log_every_n_steps=1) == [0, 0]


@pytest.mark.parametrize(
    "arguments",
    [
        {"val_check_interval": "4 samples"},
        {"callbacks": [ModelCheckpoint(save_top_k=0, every="4 samples")], "enable_checkpointing": True},
        {"log_every_n_steps": "4 samples"},
    ],
    ids=["validation", "saving", "logging"],
)
def test_whoever_goes_by_samples_has_them_counted(arguments: dict[str, Any], tmp_path: Path) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, keep_last=False, **arguments)
    trainer.fit(TinyModule(), TinyData(3), TinyData(1))
    assert trainer.progress.samples == 9


class Manual(TinyModule):
    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


class WithLbfgs(TinyModule):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), max_iter=2)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (Manual(), {}),
        (WithLbfgs(), {}),
        (TinyModule(), {"accumulate_grad_batches": "auto"}),
        (TinyModule(), {"precision": "bf16-mixed", "accumulate_grad_batches": 2}),
        pytest.param(TinyModule(), {"compile": "step"}, marks=pytest.mark.slow),
    ],
    ids=["manual", "LBFGS", "auto", "bf16", "compiled"],
)
def test_every_kind_of_step_counts(module: TinyModule, arguments: dict[str, Any]) -> None:
    assert samples_after(TinyData(3), module, **arguments) == [3, 6, 9]


def test_limits_and_repeated_batches_are_counted_as_they_are_trained() -> None:
    assert samples_after(TinyData(5), limit_train_batches=2) == [3, 6]
    assert samples_after(TinyData(5), overfit_batches=1, max_epochs=2) == [3, 6]
    assert samples_after(TinyData(5), fast_dev_run=2) == [3, 6]


class Opaque:
    """A batch that hides its tensors, as those of graph libraries do."""

    def __init__(self, samples: list[Any]) -> None:
        self.x, self.y = (torch.stack(each) for each in zip(*samples, strict=True))

    def to(self, device: torch.device, non_blocking: bool = False) -> Opaque:
        return self


class OnOpaque(TinyModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss((batch.x, batch.y))


def test_what_a_loader_has_drawn_counts_where_the_batch_does_not_tell() -> None:
    (data,) = TinyData(1, 5)
    dataset = list(zip(*data, strict=True))
    loader = DataLoader(dataset, batch_size=2, collate_fn=Opaque)  # type: ignore[arg-type]  # a list is a dataset
    assert samples_after(loader, OnOpaque()) == [2, 4, 5]


def test_what_cannot_be_counted_is_an_error_that_says_what_to_do() -> None:
    (data,) = TinyData(1, 5)
    with pytest.raises(DataError, match=r"(?s)cannot be told from a batch of type Opaque.*'500 steps'"):
        samples_after([Opaque(list(zip(*data, strict=True)))], OnOpaque())


def test_a_batch_without_samples_is_one_of_none() -> None:
    class OnNone(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if len(batch[0]) == 0 else self.loss(batch)

    assert samples_after([TinyData(1, 0)[0], TinyData(1, 2)[0]], OnNone()) == [0, 2]


def test_a_run_that_begins_to_count_in_its_middle_says_so(tmp_path: Path) -> None:
    class Save(Callback):
        def on_train_batch_end(self, trainer: Any) -> None:
            if trainer.progress.total_batches == 2:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    quiet_trainer(callbacks=[Save()]).fit(TinyModule(), TinyData(4))
    recorder = Recorder(only=["on_validation_start"], look=lambda trainer, module: trainer.progress.total_batches)
    trainer = quiet_trainer(val_check_interval="6 samples", callbacks=[recorder])
    with pytest.warns(UserWarning, match="those of the 2 batches so far were not counted"):
        trainer.fit(TinyModule(), TinyData(4), TinyData(1), ckpt_path=tmp_path / "a.ckpt")
    assert trainer.progress.samples == 6
    assert recorder.seen("on_validation_start") == [4]


def test_what_was_counted_means_nothing_once_a_part_was_not(tmp_path: Path) -> None:
    trainer = quiet_trainer(val_check_interval="6 samples")
    trainer.fit(TinyModule(), TinyData(4), TinyData(1))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    later = quiet_trainer(max_epochs=2)
    later.fit(TinyModule(), TinyData(4), TinyData(1), ckpt_path=tmp_path / "a.ckpt")
    assert (later.progress.samples, later.progress.validated_at_samples) == (0, 0)
