from __future__ import annotations

from typing import Any

import pytest
import torch

from trainkit.errors import ModuleError
from trainkit.testing import TinyModule, quiet_trainer
from trainkit.trainer.advice import advise


def raised(message: str, kind: type[Exception] = RuntimeError, module: TinyModule | None = None) -> str:
    """Return the notes on an error that was raised outside of a run."""
    error = kind(message)
    advise(error, module or TinyModule(), infers=False)
    return "\n".join(getattr(error, "__notes__", ()))


class Swapped(TinyModule):
    def training_step(self, i: Any, b: Any) -> Any:
        x, y = b
        return self.loss((x, y))


class Indexes(TinyModule):
    def training_step(self, i: Any, b: Any) -> Any:
        return self.loss((b["x"], b["y"]))


class ByName(TinyModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss((batch["x"], batch["y"]))


@pytest.mark.parametrize(
    ("module", "batch", "part"),
    [
        (
            Swapped,
            (torch.ones(2, 4), torch.ones(2, 2)),
            "def training_step(self, batch, batch_idx). Here 'b' is the index",
        ),
        (Indexes, {"x": torch.ones(2, 4), "y": torch.ones(2, 2)}, "Here 'b' is the index"),
        (ByName, [torch.ones(2, 4), torch.ones(2, 2)], "how the step takes it apart"),
        (ByName, torch.ones(2, 4), "how the step takes it apart"),
    ],
)
def test_a_batch_that_is_another_than_the_step_takes_it_for(module: type[TinyModule], batch: Any, part: str) -> None:
    with pytest.raises((TypeError, IndexError)) as caught:
        quiet_trainer().fit(module(), [batch])
    assert part in "\n".join(caught.value.__notes__)


# What other versions and devices say, which cannot be made to happen here


@pytest.mark.parametrize(
    ("kind", "message", "part"),
    [
        (RuntimeError, "expected scalar type Long but found Float", "y.long()"),
        (RuntimeError, "\"nll_loss_forward_reduce_cuda_kernel_2d_index\" not implemented for 'Int'", "y.long()"),
        (
            RuntimeError,
            "Input type (torch.cuda.FloatTensor) and weight type (torch.FloatTensor) should be the same",
            "self.device",
        ),
        (
            RuntimeError,
            "Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor) should be the same",
            "self.device",
        ),
        (
            RuntimeError,
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
            "self.device",
        ),
        (RuntimeError, "CUDA error: device-side assert triggered", "accelerator='cpu'"),
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2 GiB.", "accumulate_grad_batches='auto'"),
        (IndexError, "index out of range in self", "num_embeddings"),
        (
            RuntimeError,
            "aten.add.Tensor got mixed torch.Tensor and DTensor, need to convert all torch.Tensor to DTensor",
            "FSDP(wrap_policy=...)",
        ),
        (RuntimeError, "Inference tensors cannot be saved for backward.", "requires gradients"),
        (
            TypeError,
            "Caught TypeError in DataLoader worker process 0.\n...\nTypeError: default_collate: batch must contain "
            "tensors, numpy arrays, numbers, dicts or lists; found <class 'NoneType'>",
            "__getitem__",
        ),
    ],
)
def test_a_message_is_known(kind: type[Exception], message: str, part: str) -> None:
    assert part in raised(message, kind)


@pytest.mark.parametrize("kind", [ValueError, KeyError, OSError])
def test_another_kind_of_error_with_the_same_words_is_not(kind: type[Exception]) -> None:
    assert raised("expected scalar type Long but found Float", kind) == ""


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


@pytest.mark.parametrize("given", ["int", "OneCycleLR"])
def test_a_schedule_as_long_as_a_fit_without_bound(given: str) -> None:
    class Endless(TinyModule):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            steps = self.trainer.estimated_stepping_batches
            steps = int(steps) if given == "int" else steps
            return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)]

    with pytest.raises((OverflowError, ValueError)) as caught:
        quiet_trainer(max_epochs=-1).fit(Endless(), [(torch.ones(2, 4), torch.ones(2, 2))])
    assert "estimated_stepping_batches is infinite, as nothing bounds this fit" in "\n".join(caught.value.__notes__)


def test_another_infinite_number_is_not_that_of_updates() -> None:
    class Other(TinyModule):
        def configure_optimizers(self) -> Any:
            return int(float("inf"))

    with pytest.raises(OverflowError) as caught:
        quiet_trainer(max_epochs=1).fit(Other(), [(torch.ones(2, 4), torch.ones(2, 2))])
    assert "estimated" not in "\n".join(getattr(caught.value, "__notes__", ()))
