from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainkit.strategies import DDP
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.advice import describe


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.zeros(2, 3), "float32 (2, 3)"),
        ([torch.zeros(2).double(), torch.zeros(2).long()], "[float64 (2,), int64 (2,)]"),
        ({"x": torch.zeros(2), "n": 3}, "{'x': float32 (2,), 'n': int}"),
        ((torch.zeros(1, device="meta"), "text", None), "[float32 (1,) on meta, str, NoneType]"),
        ([1] * 9, "[int, int, int, int, int, int, ...]"),
        ([[[[1]]]], "[[[list]]]"),
        ({}, "{}"),
        ([], "[]"),
    ],
)
def test_a_batch_is_described(value: Any, text: str) -> None:
    assert describe(value) == text


# What is not advised on


def fails(step: Callable[[TinyModule, Any], Any], batch: Any = None, **hooks: Any) -> str:
    """Return the notes on what ends a fit whose step is ``step``."""

    class Module(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return step(self, batch)

    for name, hook in hooks.items():
        setattr(Module, name, hook)
    with pytest.raises(Exception) as caught:  # each has another
        quiet_trainer().fit(Module(), TinyData(1) if batch is None else [batch])
    return notes(caught.value)


def raises(error: Exception) -> Callable[..., Any]:
    def step(self: TinyModule, batch: Any = None) -> None:
        raise error

    return step


def reads_a_missing_file(self: TinyModule, batch: Any) -> None:
    Path("/nowhere/same dtype/expected scalar type.bin").read_bytes()


def reads_own_settings(self: TinyModule, batch: Any) -> Any:
    return batch["x"] * {"rate": 1}["lr"]


def reads_own_list(self: TinyModule, batch: Any) -> Any:
    return batch[0] * [1, 2][3]


def takes_own_pair_apart(self: TinyModule, batch: Any) -> None:
    _, _ = list(range(3))


def reads_attribute_of_own_settings(self: TinyModule, batch: Any) -> Any:
    return {"lr": 0.1}.lr  # type: ignore[attr-defined]


def reads_attribute_of_none(self: TinyModule, batch: Any) -> Any:
    return None.x  # type: ignore[attr-defined]


def loads_other_weights(self: TinyModule, stage: Any = None) -> None:
    self.load_state_dict(TinyModule(in_features=9).state_dict())


def compares_own_text(self: TinyModule, batch: Any) -> Any:
    return "0.1" < 0.1  # type: ignore[operator]


STRANGE = {
    "words of the user": (raises(ValueError("all lengths should be the same")), None),
    "words of torch": (raises(RuntimeError("mat1 and mat2 must have the same dtype")), None),
    "path": (reads_a_missing_file, None),
    "settings": (reads_own_settings, {"x": torch.ones(3)}),
    "list": (reads_own_list, None),
    "pair": (takes_own_pair_apart, None),
    "attribute of settings": (reads_attribute_of_own_settings, None),
    "attribute of None": (reads_attribute_of_none, None),
    "text": (compares_own_text, None),
    "weights in the step": (lambda self, batch: loads_other_weights(self), None),
}


@pytest.mark.parametrize(("step", "batch"), STRANGE.values(), ids=STRANGE)
def test_the_users_own_mistakes_are_not_taken_for_common_ones(step: Any, batch: Any) -> None:
    assert fails(step, batch) == ""


def test_a_module_without_forward_has_none_that_lacks_a_return() -> None:
    assert fails(reads_attribute_of_none, forward=torch.nn.Module.forward) == ""


def test_weights_that_do_not_fit_are_no_batch_that_does_not() -> None:
    assert "to do" not in fails(raises(ValueError()), setup=loads_other_weights)


def test_an_error_of_a_worker_is_not_advised_on_by_what_the_user_says_in_it() -> None:
    class Samples(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            raise RuntimeError("all lengths should be the same")

    with pytest.raises(RuntimeError, match="in DataLoader worker process") as caught:
        quiet_trainer().fit(TinyModule(), torch.utils.data.DataLoader(Samples(), num_workers=1))
    assert "to do" not in notes(caught.value)


@pytest.mark.parametrize(
    "step",
    [
        lambda self, batch: batch["x"],
        lambda self, batch: batch["in"]["x"],
        lambda self, batch: batch.shape,
        lambda self, batch: batch["in"].shape,
        lambda self, batch: torch.nn.LSTM(4, 4)(torch.ones(1, 4)).shape,
    ],
)
def test_a_batch_that_is_taken_apart_wrongly_is(step: Any) -> None:
    assert "compare what the batch is with how the step takes it apart" in fails(step, {"in": {"y": torch.ones(3)}})


# Where it happened


class Fails(TinyModule):
    def loss(self, batch: Any) -> Tensor:
        if self.trainer.state.stage == self.where:
            return self.layer(batch[0].double()).sum()  # type: ignore[no-any-return]
        return super().loss(batch)

    where = "train"


@pytest.mark.parametrize(
    ("stage", "where", "step"),
    [
        ("fit", "train", "training_step"),
        ("fit", "sanity_check", "validation_step"),
        ("validate", "validate", "validation_step"),
        ("test", "test", "test_step"),
    ],
)
def test_the_step_is_named(stage: str, where: str, step: str) -> None:
    module = Fails()
    module.where = where
    loaders = (TinyData(2), TinyData(2)) if stage == "fit" else (TinyData(2),)
    with pytest.raises(RuntimeError, match="same dtype") as caught:
        getattr(quiet_trainer(num_sanity_val_steps=1), stage)(module, *loaders)
    assert f"in Fails.{step}, with the batch [float32 (3, 4), float32 (3, 2)]" in notes(caught.value)


def step_of_another_name(module: TinyModule, batch: Any, batch_idx: int) -> Tensor:
    return module.layer(batch[0].double()).sum()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "arguments", [{}, {"strategy": DDP()}, {"precision": "bf16-true"}], ids=["plain", "ddp", "bf16-true"]
)
def test_a_step_is_known_whatever_its_function_is_called(arguments: Any) -> None:
    module = TinyModule()
    module.training_step = partial(step_of_another_name, module)  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="same dtype") as caught:
        quiet_trainer(**arguments).fit(module, TinyData(1))
    assert "in TinyModule.training_step, with the batch" in notes(caught.value)


def test_a_hook_is_no_step() -> None:
    class Module(TinyModule):
        def on_train_batch_start(self) -> None:
            self.layer(torch.zeros(1, 4).double())

    with pytest.raises(RuntimeError, match="same dtype") as caught:
        quiet_trainer().fit(Module(), TinyData(1))
    assert "to do" in notes(caught.value)
    assert "with the batch" not in notes(caught.value)


def test_a_batch_that_cannot_be_described_leaves_the_error_as_it_is() -> None:
    class Odd:
        @property
        def shape(self) -> Any:
            raise ValueError("has no shape")

    class Module(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(torch.zeros(1, 4).double())

    with pytest.raises(RuntimeError, match="same dtype") as caught:
        quiet_trainer().fit(Module(), [[Odd()]])
    assert "has no shape" in notes(caught.value)


def test_an_error_of_the_loader_is_not_taken_for_one_of_the_step() -> None:
    def batches() -> Any:
        yield {"x": torch.zeros(1)}
        yield {}["y"]

    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return batches()

    class Module(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(torch.zeros(1, 4)).sum()

    with pytest.raises(KeyError) as caught:
        quiet_trainer().fit(Module(), Stream())
    assert notes(caught.value) == ""
