from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from trainkit.errors import ModuleError
from trainkit.strategies import DDP
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.advice import advise, describe


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def raised(message: str, kind: type[Exception] = RuntimeError, module: TinyModule | None = None) -> str:
    """Return the notes on an error that was raised outside of a run."""
    error = kind(message)
    advise(error, module or TinyModule(), infers=False)
    return notes(error)


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


# What other versions and devices say, which cannot be made to happen here


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ("expected scalar type Long but found Float", "y.long()"),
        ("\"nll_loss_forward_reduce_cuda_kernel_2d_index\" not implemented for 'Int'", "y.long()"),
        ("Input type (torch.cuda.FloatTensor) and weight type (torch.FloatTensor) should be the same", "self.device"),
        ("Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor) should be the same", "self.device"),
        (
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
            "self.device",
        ),
        ("CUDA error: device-side assert triggered", "accelerator='cpu'"),
        ("CUDA out of memory. Tried to allocate 2 GiB.", "accumulate_grad_batches='auto'"),
        ("index out of range in self", "num_embeddings"),
        ("Inference tensors cannot be saved for backward.", "requires gradients"),
        (
            "The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 1",
            "shapes of the batch",
        ),
        (
            "Caught TypeError in DataLoader worker process 0.\n...\nTypeError: default_collate: batch must contain "
            "tensors, numpy arrays, numbers, dicts or lists; found <class 'NoneType'>",
            "__getitem__",
        ),
    ],
)
def test_a_message_is_known(message: str, part: str) -> None:
    assert part in raised(message)


def test_what_is_not_known_gets_no_note() -> None:
    assert raised("something else") == ""
    assert raised("'NoneType' object has no attribute 'x'", AttributeError) == ""  # forward does return


def test_our_own_errors_say_what_to_do_themselves() -> None:
    assert raised("expected scalar type Long but found Float", ModuleError) == ""


def test_backward_twice_is_something_else_with_manual_optimization() -> None:
    manual = TinyModule()
    manual.automatic_optimization = False
    message = "Trying to backward through the graph a second time"
    assert "leave out loss.backward()" in raised(message)
    assert "once for each forward" in raised(message, module=manual)


# Where it happened


class Fails(TinyModule):
    def loss(self, batch: Any) -> Tensor:
        if self.trainer.state.stage == self.where:
            raise RuntimeError("mat1 and mat2 must have the same dtype, but got Double and Float")
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
