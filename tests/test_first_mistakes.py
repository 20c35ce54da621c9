"""The first mistakes of a new user: each is answered in the first batch or before training, with what to do."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import trainkit
from trainkit.callbacks import Callback, EarlyStopping, ModelCheckpoint
from trainkit.testing import quiet_trainer


class Net(trainkit.TrainModule):
    """What a newcomer writes, but right."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.layer = nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Classifies(Net):
    def __init__(self) -> None:
        super().__init__(outputs=3)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])


class Validates(Net):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", nn.functional.mse_loss(self(batch[0]), batch[1]))


def net(base: type[Net] = Net, **attributes: Any) -> Net:
    """Return an object of a class that has ``attributes``, such as a step."""
    return type("Mine", (base,), attributes)()  # type: ignore[no-any-return]


def data(x: Any = None, y: Any = None) -> DataLoader[Any]:
    x = torch.randn(8, 4) if x is None else x
    y = torch.randn(8, 1) if y is None else y
    return DataLoader(TensorDataset(x, y), batch_size=4)


def said(program: Callable[[], Any]) -> str:
    """Return all that ``program`` tells the user: its warnings, and the error with its notes."""
    texts = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            program()
        except Exception as error:
            texts = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
    return "\n".join([*(str(each.message) for each in caught), *texts])


def fit(module: Any, *loaders: Any, **arguments: Any) -> str:
    """Fit, and return what was said and how many batches were trained on by then."""
    batches: list[int] = []

    class Counts(Callback):
        def on_train_batch_end(self) -> None:
            batches.append(1)

    def program() -> None:
        callbacks = [Counts(), *arguments.pop("callbacks", ())]
        quiet_trainer(**({"max_epochs": 3} | arguments), callbacks=callbacks).fit(module, *(loaders or (data(),)))

    return f"{said(program)}\nafter {len(batches)} batches"


AT_ONCE = "after 0 batches"
LOSS = nn.functional.mse_loss


class NoSuper(trainkit.TrainModule):
    def __init__(self) -> None:
        self.lr = 0.1


class Samples(Dataset[Any]):
    def __init__(self, sample: Callable[[int], Any]) -> None:
        self.sample = sample

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        return self.sample(index)


class PlainList(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(4, 4)]

    def forward(self, x: Tensor) -> Any:
        return self.layer(self.layers[0](x))


class NothingElse(PlainList):
    def __init__(self) -> None:
        super().__init__()
        del self.layer

    def forward(self, x: Tensor) -> Any:
        return self.layers[0](x)


class Manual(Net):
    """Forgets ``zero_grad``."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(LOSS(self(batch[0]), batch[1]))
        self.optimizers().step()  # type: ignore[union-attr]


def no_return(self: Net, batch: Any, batch_idx: int) -> None:
    LOSS(self(batch[0]), batch[1])


def overwritten(self: Net, batch: Any, batch_idx: int) -> Any:
    prediction = self(batch[0]).sigmoid()
    loss = LOSS(prediction, batch[1])
    prediction += 1
    return loss


def backward_itself(self: Net, batch: Any, batch_idx: int) -> Any:
    loss = LOSS(self(batch[0]), batch[1])
    loss.backward()
    return loss


def forgets_forward(self: Net, x: Tensor) -> None:
    self.layer(x)


def logs_many(self: Net, batch: Any, batch_idx: int) -> Any:
    self.log("prediction", self(batch[0]))
    return Net.training_step(self, batch, batch_idx)


def logs_dict(self: Net, batch: Any, batch_idx: int) -> Any:
    self.log({"train/loss": 1.0})  # type: ignore[call-arg, arg-type]


def no_grad_backward(self: Net, batch: Any, batch_idx: int) -> None:
    self(batch[0]).sum().backward()


def with_gradients(self: Net, batch: Any, batch_idx: int) -> None:
    with torch.enable_grad():
        self(batch[0]).sum().backward()


def optimizer_of(make: Callable[[Net], Any]) -> Net:
    return net(configure_optimizers=make)


def returns(make: Callable[[Tensor], Any], **attributes: Any) -> Net:
    """Return a module whose ``training_step`` returns what ``make`` makes of the loss."""
    return net(training_step=lambda self, batch, batch_idx: make(LOSS(self(batch[0]), batch[1])), **attributes)


def with_schedule(self: Net) -> Any:
    optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1)


def forgets_to_return_it(self: Net) -> None:
    torch.optim.SGD(self.parameters(), lr=0.1)


def elsewhere(self: Net, batch: Any, batch_idx: int) -> Any:
    return LOSS(self(batch[0]) * torch.ones(1, device="meta"), batch[1])


def labels_first(self: Net, batch: Any, batch_idx: int) -> Any:
    return nn.functional.cross_entropy(batch[1], self(batch[0]))


def binary(self: Net, batch: Any, batch_idx: int) -> Any:
    return nn.functional.binary_cross_entropy_with_logits(self(batch[0]), batch[1])


def none(self: Net) -> None:
    """For ``configure_optimizers``."""


def frozen() -> Net:
    module = Net()
    module.requires_grad_(False)
    return module


INTEGERS = torch.randint(0, 3, (8,))
BROADCAST = ["prediction and label need one shape", r"y.unsqueeze(1) makes (N, 1) of (N,)"]
TO_LIST = ["torch.nn.ModuleList or ModuleDict"]

# By the mistake: a program, and parts of what is said.
CASES: dict[str, tuple[Callable[[], str], list[str]]] = {
    # The six commonest
    "no return": (
        lambda: fit(net(training_step=no_return), fast_dev_run=2),
        ["ModuleError", "Mine.training_step computes a loss, return it"],
    ),
    "float64 columns": (
        lambda: fit(Net(), data(torch.randn(8, 4).double())),
        [AT_ONCE, "float64 (4, 4)", "parameters   float32 on cpu", "x.float()", "precision='64-true'"],
    ),
    "misspelt monitor": (
        lambda: fit(Validates(), data(), data(), callbacks=[EarlyStopping("val_los")], num_sanity_val_steps=1),
        ["EarlyStopping: no metric 'val_los'", "did you mean 'val/loss'?", "the sanity check and the first update"],
    ),
    "misspelt monitor, tried": (
        lambda: fit(Validates(), data(), data(), callbacks=[EarlyStopping("val_los")], fast_dev_run=True),
        ["after 1 batches", "MetricError", "did you mean 'val/loss'?"],
    ),
    "forgotten zero_grad": (lambda: fit(Manual()), ["second update", "Call optimizer.zero_grad()"]),
    "labels without a column": (
        lambda: fit(Net(), data(y=torch.randn(8))),
        [AT_ONCE, "[float32 (4, 4), float32 (4,)]", *BROADCAST],
    ),
    "loss that is a float": (lambda: fit(returns(float)), [AT_ONCE, "returned float", "without .item(), float()"]),
    # The loss
    "loss.item() without an optimizer": (
        lambda: fit(returns(Tensor.item, configure_optimizers=none)),
        [AT_ONCE, "returned float", "without .item(), float()"],
    ),
    "loss that is an array": (lambda: fit(returns(lambda loss: loss.detach().numpy())), [AT_ONCE, "or .numpy()"]),
    "dict without loss": (lambda: fit(returns(lambda loss: {"los": loss})), [AT_ONCE, "the keys ['los']", "'loss'"]),
    "dict with a float": (lambda: fit(returns(lambda loss: {"loss": 1.0})), [AT_ONCE, "'loss' is a float", ".item()"]),
    "tuple": (lambda: fit(returns(lambda loss: (loss, 3))), [AT_ONCE, "return {'loss': loss, ...}"]),
    "two losses": (lambda: fit(returns(lambda loss: loss.expand(2))), [AT_ONCE, "(2,)", "loss.mean()"]),
    "two losses without an optimizer": (
        lambda: fit(returns(lambda loss: loss.expand(2), configure_optimizers=none)),
        [AT_ONCE, "(2,)", "loss.mean()"],
    ),
    "detached loss": (lambda: fit(returns(Tensor.detach)), [AT_ONCE, "does not require grad", "detached"]),
    "all frozen": (lambda: fit(frozen()), [AT_ONCE, "all parameters frozen"]),
    "backward in the step": (lambda: fit(net(training_step=backward_itself)), [AT_ONCE, "leave out loss.backward()"]),
    "changed in place": (lambda: fit(net(training_step=overwritten)), [AT_ONCE, "write x = x + y"]),
    "class of a loss": (
        lambda: fit(net(training_step=lambda self, batch, batch_idx: nn.MSELoss(self(batch[0]), batch[1]))),
        [AT_ONCE, "torch.nn.MSELoss()(prediction, y)"],
    ),
    # Data types and shapes
    "whole numbers": (lambda: fit(Net(), data(torch.ones(8, 4, dtype=torch.int64))), [AT_ONCE, "x.float()"]),
    "arrays": (lambda: fit(Net(), [(np.zeros((4, 4)), np.zeros((4, 1)))]), [AT_ONCE, "torch.tensor(x, dtype"]),
    "module in float64": (lambda: fit(Net().double()), [AT_ONCE, "float64 on cpu", "precision='64-true'"]),
    "labels as floats": (lambda: fit(Classifies(), data(y=INTEGERS.float())), [AT_ONCE, "y.long()"]),
    "labels as int32": (lambda: fit(Classifies(), data(y=INTEGERS.int())), [AT_ONCE, "y.long()"]),
    "labels as a column": (lambda: fit(Classifies(), data(y=INTEGERS[:, None])), [AT_ONCE, "y.squeeze(1)"]),
    "labels from 1": (lambda: fit(Classifies(), data(y=INTEGERS * 0 + 3)), [AT_ONCE, "counted from 0", "y.max() + 1"]),
    "labels ahead of predictions": (
        lambda: fit(net(training_step=labels_first), data(y=INTEGERS)),
        [AT_ONCE, "cross_entropy(scores, y)"],
    ),
    "classes instead of scores": (
        lambda: fit(
            net(forward=lambda self, x: self.layer(x).argmax(1), training_step=Classifies.training_step),
            data(y=INTEGERS[:, None]),
        ),
        [AT_ONCE, "without argmax"],
    ),
    "binary labels as whole numbers": (
        lambda: fit(net(training_step=binary), data(y=INTEGERS[:, None] % 2)),
        [AT_ONCE, "y.float()"],
    ),
    "binary labels without a column": (lambda: fit(net(training_step=binary), data(y=torch.ones(8))), BROADCAST),
    "predictions without a column": (
        lambda: fit(net(forward=lambda self, x: self.layer(x).squeeze(1))),
        [AT_ONCE, *BROADCAST],
    ),
    "too many features": (lambda: fit(Net(), data(torch.randn(8, 5))), [AT_ONCE, "float32 (4, 5)", "in_features"]),
    "another device": (
        lambda: fit(net(training_step=elsewhere)),
        [AT_ONCE, "device=self.device", "self.register_buffer"],
    ),
    # The batch and its loader
    "no labels": (
        lambda: fit(Net(), DataLoader(TensorDataset(torch.randn(8, 4)), batch_size=4)),
        [AT_ONCE, "the batch [float32 (4, 4)]", "takes it apart"],
    ),
    "batch is a dict": (
        lambda: fit(Net(), [{"x": torch.randn(4, 4), "y": torch.randn(4, 1)}]),
        [AT_ONCE, "{'x': float32 (4, 4), 'y': float32 (4, 1)}", "batch['x']"],
    ),
    "key that is not there": (
        lambda: fit(net(training_step=lambda self, batch, batch_idx: self(batch["y"])), [{"x": torch.randn(4, 4)}]),
        [AT_ONCE, "the batch {'x': float32 (4, 4)}"],
    ),
    "item that is not there": (
        lambda: fit(net(training_step=lambda self, batch, batch_idx: self(batch[2]))),
        [AT_ONCE, "the batch [float32 (4, 4), float32 (4, 1)]"],
    ),
    "last batch of one": (
        lambda: fit(net(forward=lambda self, x: nn.BatchNorm1d(4)(x)), [(torch.randn(1, 4), torch.randn(1, 4))]),
        [AT_ONCE, "drop_last=True"],
    ),
    "images without a channel": (
        lambda: fit(net(forward=lambda self, x: nn.Conv2d(1, 1, 2)(x)), [(torch.randn(4, 4), torch.randn(4, 1))]),
        [AT_ONCE, "x.unsqueeze(1)"],
    ),
    "several loaders": (lambda: fit(Net(), [data(), data()]), [AT_ONCE, "[[float32 (4, 4), float32 (4, 1)], ["]),
    "data set": (lambda: fit(Net(), data().dataset), [AT_ONCE, "wrap it in torch.utils.data.DataLoader"]),
    "loader of a loader": (lambda: fit(Net(), DataLoader(data())), [AT_ONCE, "pass the inner one"]),
    "data set without return": (
        lambda: fit(Net(), DataLoader(Samples(lambda index: None))),
        [AT_ONCE, "__getitem__ of the data set has returned None"],
    ),
    "samples of many sizes": (
        lambda: fit(Net(), DataLoader(Samples(lambda index: torch.ones(index + 1)), batch_size=2)),
        [AT_ONCE, "samples differ in size", "collate_fn"],
    ),
    "samples of a class": (
        lambda: fit(Net(), DataLoader(Samples(lambda index: object()))),
        [AT_ONCE, "let the data set return tensors"],
    ),
    "validation data without a step": (lambda: fit(Net(), data(), data()), ["Net has no validation_step", "Write one"]),
    "validation without data": (
        lambda: fit(Validates(), callbacks=[EarlyStopping("val/loss")], max_epochs=1),
        ["no metric 'val/loss'", "there being no validation data"],
    ),
    # The module
    "no super().__init__()": (lambda: fit(NoSuper()), [AT_ONCE, "NoSuper.__init__ has not called super().__init__()"]),
    "forward without return": (lambda: fit(net(forward=forgets_forward)), [AT_ONCE, "Mine.forward has no return"]),
    "swapped arguments": (
        lambda: fit(net(training_step=lambda self, batch_idx, batch: None)),
        [AT_ONCE, "'batch_idx' at a wrong place", "training_step(self, batch, batch_idx)"],
    ),
    "no self": (
        lambda: fit(net(training_step=lambda batch, batch_idx: None)),
        [AT_ONCE, "training_step(self, batch, batch_idx)"],
    ),
    "layers in a list": (lambda: fit(PlainList()), ["nothing trains what is in PlainList.layers", *TO_LIST]),
    "all layers in a list": (lambda: fit(NothingElse()), [AT_ONCE, "NothingElse has no parameters", *TO_LIST]),
    "compiled module": (
        lambda: fit(torch.compile(Net(), backend="eager")),
        [AT_ONCE, "torch.compile(module)", "Trainer(compile=True)"],
    ),
    "plain module": (lambda: fit(nn.Linear(4, 1)), [AT_ONCE, "Subclass trainkit.TrainModule"]),
    # Optimizers
    "class of an optimizer": (
        lambda: fit(optimizer_of(lambda self: torch.optim.SGD)),
        [AT_ONCE, "the class SGD", "SGD(self.parameters(), lr=...)"],
    ),
    "optimizer without return": (
        lambda: fit(optimizer_of(forgets_to_return_it)),
        ["If it makes an optimizer, return it"],
    ),
    "optimizer of nothing": (lambda: fit(optimizer_of(lambda self: torch.optim.SGD([]))), ["pass self.parameters()"]),
    "learning rate as text": (
        lambda: fit(optimizer_of(lambda self: torch.optim.SGD(self.parameters(), lr="0.1"))),  # type: ignore[arg-type]
        [AT_ONCE, "a number was given as text"],
    ),
    "optimizer of a method": (
        lambda: fit(optimizer_of(lambda self: torch.optim.SGD(self.parameters))),  # type: ignore[arg-type]
        [AT_ONCE, "call it: self.parameters()"],
    ),
    "optimizer of another module": (
        lambda: fit(optimizer_of(lambda self: torch.optim.SGD(Net().parameters()))),
        ["2 of the 2 parameters of SGD are not among Mine.parameters()", "No parameter of Mine itself is trained"],
    ),
    "optimizer and scheduler": (
        lambda: fit(optimizer_of(with_schedule)),
        [AT_ONCE, "a StepLR", 'return {"optimizer": optimizer, "lr_scheduler": scheduler}'],
    ),
    "more batches in a group than there are": (
        lambda: fit(Net(), accumulate_grad_batches=8),
        ["accumulate_grad_batches=8 is more than the 2 training batches"],
    ),
    # Logging
    "log of many numbers": (lambda: fit(net(training_step=logs_many)), [AT_ONCE, "value.mean()"]),
    "log of a dict": (lambda: fit(net(training_step=logs_dict)), [AT_ONCE, "self.log_dict(...)"]),
    # Evaluation
    "gradients in validation": (
        lambda: (
            fit(net(validation_step=with_gradients), data(), data(), num_sanity_val_steps=0)
            + said(lambda: quiet_trainer().validate(net(validation_step=with_gradients), data()))
        ),
        ["torch.inference_mode", "torch.enable_grad()", "Trainer(inference_mode=False)"],
    ),
    "gradients in the validation of a fit": (
        lambda: fit(net(validation_step=no_grad_backward), data(), data(), num_sanity_val_steps=1),
        [AT_ONCE, "evaluation runs without gradients", "torch.enable_grad()"],
    ),
}


@pytest.mark.parametrize(("program", "parts"), CASES.values(), ids=CASES)
def test_a_mistake_is_answered_with_what_to_do(program: Callable[[], str], parts: list[str]) -> None:
    text = program()
    assert [part for part in parts if part not in text] == [], text


def test_what_is_right_is_told_nothing(tmp_path: Any) -> None:
    callbacks = [EarlyStopping("val/loss"), ModelCheckpoint(tmp_path, monitor="train/loss")]
    arguments = {"callbacks": callbacks, "enable_checkpointing": True, "num_sanity_val_steps": 2}
    assert fit(Validates(), data(), data(), **arguments) == "\nafter 6 batches"
