"""What every strategy promises, in one process on the CPU. A strategy is found as soon as its file exists."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch.testing import assert_close

import trainkit.strategies
from tests.strategies.regression import Regression, gradients, make_batch
from trainkit.errors import ConfigError
from trainkit.module.shards import mapped, whole
from trainkit.plugins import catalog
from trainkit.strategies import DDP, FSDP, DataParallel, Strategy


def all_strategies() -> list[type[Strategy]]:
    found = []
    for info in pkgutil.walk_packages(trainkit.strategies.__path__, "trainkit.strategies."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            is_strategy = inspect.isclass(value) and issubclass(value, Strategy) and not inspect.isabstract(value)
            if is_strategy and value.__module__ == module.__name__:
                found.append(value)
    return found


KINDS = all_strategies()
VARIANTS: dict[str, Callable[[], Strategy]] = {
    **{kind.__name__: kind for kind in KINDS},
    "DataParallel on two": lambda: DataParallel(["cpu", "cpu"]),
    "DDP with a static graph": lambda: DDP(static_graph=True),
    "FSDP without units": lambda: FSDP(wrap_policy=lambda module: False),
    "FSDP of layers": lambda: FSDP(wrap_policy=torch.nn.Linear),
    "DDP that finds unused parameters": lambda: DDP(find_unused_parameters=True),
}


@pytest.fixture(params=VARIANTS)
def strategy(request: pytest.FixtureRequest) -> Iterator[Strategy]:
    made = VARIANTS[request.param]()
    if not made.devices:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "strategy 'dp'")
            made.assign([torch.device("cpu")])
    made.setup()
    yield made
    made.teardown()


def test_the_package_was_listed():
    assert {"SingleDevice", "DataParallel", "DDP"} <= {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_in_the_catalog_under_its_name(kind: type[Strategy]):
    assert catalog.load("strategies", kind.name) is kind


def test_it_knows_its_device_and_its_rank(strategy: Strategy):
    assert strategy.device == strategy.devices[0] == torch.device("cpu")
    assert (strategy.rank, strategy.local_rank, strategy.world_size, strategy.num_nodes) == (0, 0, 1, 1)
    assert not strategy.is_distributed


def test_loss_and_gradients_are_those_of_the_bare_module(strategy: Strategy):
    by_hand, module, batch = Regression(), Regression(), make_batch(7)
    expected = by_hand.training_step(batch, 0)
    expected.backward()

    strategy.wrap(module)
    step = strategy.training_step(module)
    with strategy.gradient_sync(enabled=True):
        loss = step(batch, 0)
        loss.backward()

    assert_close(loss, expected)
    assert_close(mapped(gradients(module), whole), gradients(by_hand))
    assert module.batches == 1


def test_optimizers_made_after_wrapping_train_the_users_own_parameters(strategy: Strategy):
    module = Regression()
    own = list(module.parameters())
    strategy.wrap(module)
    if isinstance(strategy, FSDP):
        own = list(module.parameters())  # the parts are others; they stay what they are from here on
    strategy.training_step(module)
    assert [a is b for a, b in zip(module.parameters(), own, strict=True)] == [True] * len(own)


def test_gradients_gathered_without_an_exchange_add_up(strategy: Strategy):
    by_hand, module, batches = Regression(), Regression(), [make_batch(n, seed=n) for n in (5, 3, 4)]
    for batch in batches:
        by_hand.training_step(batch, 0).backward()

    strategy.wrap(module)
    step = strategy.training_step(module)
    for batch in batches:
        with strategy.gradient_sync(enabled=False):
            step(batch, 0).backward()
    strategy.sync_gradients(module)

    assert_close(mapped(gradients(module), whole), gradients(by_hand))


@pytest.mark.parametrize("output", [None, "loss", "loss and more"])
def test_the_loop_gets_what_the_step_returned(strategy: Strategy, output: str | None):
    class Returns(Regression):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch)
            return {None: None, "loss": loss, "loss and more": {"loss": loss, "inputs": batch[0]}}[output]

    module, batch = Returns(), make_batch(5)
    strategy.wrap(module)
    returned = strategy.training_step(module)(batch, 0)
    if output == "loss and more":
        assert_close(returned["inputs"], batch[0])
        returned = returned["loss"]
    assert returned is None if output is None else returned.requires_grad


def test_evaluation_runs_the_step_as_it_is(strategy: Strategy):
    module, batch = Regression(), make_batch(5)
    strategy.wrap(module)
    with torch.no_grad():
        assert_close(strategy.evaluation_step(module.forward)(batch[0]), Regression()(batch[0]))


def test_one_process_agrees_with_itself(strategy: Strategy):
    tensor = torch.tensor([1.0, 2.0])
    for op in ("sum", "mean", "min", "max"):
        assert_close(strategy.all_reduce(tensor, op), tensor)
    assert_close(strategy.all_gather(tensor), tensor)
    assert strategy.all_gather_object("a") == ["a"]
    assert strategy.broadcast_object("a") == "a"
    assert [strategy.any_rank(True), strategy.any_rank(torch.tensor(False))] == [True, False]
    assert [strategy.skips_step(True), strategy.skips_step(False)] == [True, False]
    strategy.barrier()


def test_the_saved_state_has_the_keys_of_the_bare_module(strategy: Strategy):
    module = Regression()
    strategy.wrap(module)
    strategy.training_step(module)
    assert list(strategy.module_state_dict(module)) == list(Regression().state_dict())


def test_a_second_run_works_and_setup_and_teardown_may_be_repeated(strategy: Strategy):
    module, batch = Regression(), make_batch(4)
    for _ in range(2):
        strategy.setup()
        strategy.setup()
        strategy.wrap(module)
        strategy.training_step(module)(batch, 0).backward()
        strategy.teardown()
        strategy.teardown()


def test_a_failed_step_leaves_nothing_behind(strategy: Strategy):
    class Fails(Regression):
        def training_step(self, batch, batch_idx):
            raise ZeroDivisionError("in the step")

    module = Fails()
    strategy.wrap(module)
    with pytest.raises(ZeroDivisionError, match="in the step"):
        strategy.training_step(module)(make_batch(4), 0)
    strategy.teardown()
    strategy.setup()


def test_more_devices_than_it_can_use_are_refused():
    with pytest.raises(ConfigError, match=r"(?s)one device per process, and 2 .*for all of them  strategy=.ddp."):
        trainkit.strategies.SingleDevice().assign([torch.device("cpu")] * 2)
