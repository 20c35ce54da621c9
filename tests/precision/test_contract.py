"""What every precision promises, on the CPU. A precision is found as soon as its file exists."""

from __future__ import annotations

import copy
import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import trainkit.precision
from tests.strategies.regression import Regression, make_batch
from trainkit.plugins import catalog
from trainkit.precision import MixedFloat16, Precision

CPU = torch.device("cpu")
TOLERANCE = {"64-true": 1e-5, "32-true": 0.0}  # the rest computes in 16 bits


def all_precisions() -> list[type[Precision]]:
    found = []
    for info in pkgutil.iter_modules(trainkit.precision.__path__):
        module = importlib.import_module(f"trainkit.precision.{info.name}")
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, Precision) and value.__module__ == module.__name__:
                found.append(value)
    return [kind for kind in found if kind is not Precision]


KINDS = all_precisions()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def precision(request: pytest.FixtureRequest) -> Precision:
    made: Precision = request.param()
    if isinstance(made, MixedFloat16):
        # The first scale that torch chooses overflows with this loss, which would skip the update.
        made = MixedFloat16(torch.amp.GradScaler("cpu", init_scale=256.0))
    made.setup(CPU)
    return made


def update(precision: Precision, module: Regression, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    batch = precision.convert_batch(make_batch(6))
    with precision.autocast():
        loss = module.training_step(batch)
    precision.backward(loss)
    precision.unscale(optimizer)
    assert precision.update(optimizer) is True
    return loss.detach()


def test_all_six_were_found():
    names = {"32-true", "64-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"}
    assert {kind.name for kind in KINDS} == names


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_in_the_catalog_under_its_name(kind: type[Precision]):
    assert catalog.load("precision", kind.name) is kind


def test_an_update_is_that_of_a_loop_written_by_hand_within_its_rounding(precision: Precision):
    by_hand, module = Regression(), Regression()
    expected = by_hand.training_step(make_batch(6))
    expected.backward()
    torch.optim.SGD(by_hand.parameters(), lr=0.1).step()

    precision.convert(module)
    loss = update(precision, module, torch.optim.SGD(module.parameters(), lr=0.1))

    tolerance = TOLERANCE.get(precision.name, 2e-2)
    assert_close(loss.float(), expected.detach(), rtol=tolerance, atol=tolerance)
    for name, weight in by_hand.named_parameters():
        assert_close(module.get_parameter(name).float(), weight, rtol=tolerance, atol=tolerance)


def test_conversion_keeps_the_parameters_themselves_and_their_gradients_dtype(precision: Precision):
    module = Regression()
    own = list(module.parameters())
    precision.convert(module)
    update(precision, module, torch.optim.SGD(module.parameters(), lr=0.1))
    assert all(now is before for now, before in zip(module.parameters(), own, strict=True))
    expected = precision.dtype or torch.float32
    assert {p.dtype for p in module.parameters()} == {p.grad.dtype for p in module.parameters()} == {expected}


def test_a_batch_keeps_its_form_and_its_whole_numbers(precision: Precision):
    batch = {"x": [torch.ones(2), torch.tensor([1, 2])], "name": "a", "mask": torch.tensor([True])}
    converted = precision.convert_batch(batch)
    assert converted["x"][0].dtype is (precision.dtype or torch.float32)
    assert converted["x"][1].dtype is torch.int64 and converted["mask"].dtype is torch.bool
    assert converted["name"] == "a"
    assert batch["x"][0].dtype is torch.float32


def test_tensors_made_in_forward_fit_and_nothing_is_left_set_afterwards(precision: Precision):
    layer = nn.Linear(2, 2).to(precision.dtype)
    for _ in range(2):
        with precision.autocast():
            layer(torch.ones(1, 2) * torch.tensor([0.5, 1.0]))
        assert torch.get_default_dtype() is torch.float32
        assert not torch.is_autocast_enabled("cpu")
    with pytest.raises(ZeroDivisionError), precision.autocast():
        raise ZeroDivisionError
    assert torch.get_default_dtype() is torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_a_closure_is_evaluated_once_before_the_step(precision: Precision):
    module = Regression()
    precision.convert(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    before = copy.deepcopy(module.state_dict())
    batch = precision.convert_batch(make_batch(6))
    calls = []

    def closure() -> torch.Tensor:
        calls.append(all(torch.equal(value, before[name]) for name, value in module.named_parameters()))
        with precision.autocast():
            loss = module.training_step(batch)
        precision.backward(loss)
        precision.unscale(optimizer)
        return loss

    assert precision.update(optimizer, closure) is True
    assert calls == [True]
    assert not torch.equal(module.outer.bias, before["outer.bias"])


def test_its_state_goes_through_a_checkpoint(precision: Precision, tmp_path):
    state = precision.state_dict()
    torch.save(state, tmp_path / "state.pt")
    fresh = type(precision)()
    fresh.setup(CPU)
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert fresh.state_dict() == state


def test_state_of_a_run_in_another_precision_is_left_alone(precision: Precision):
    before = precision.state_dict()
    precision.load_state_dict({})
    assert precision.state_dict() == before


def test_it_may_be_set_up_again_for_a_second_run(precision: Precision):
    module = Regression()
    precision.convert(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    update(precision, module, optimizer)
    state = precision.state_dict()
    precision.setup(CPU)
    assert precision.state_dict() == state
    update(precision, module, optimizer)
