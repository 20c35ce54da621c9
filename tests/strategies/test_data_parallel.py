"""Two replicas on the CPU against one device."""

from __future__ import annotations

import threading
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from tests.strategies.regression import Regression, gradients, make_batch
from trainkit.errors import ConfigError, DataError, MetricError
from trainkit.strategies import DataParallel
from trainkit.strategies.data_parallel import replicate, scatter

CPU = torch.device("cpu")
Pair = namedtuple("Pair", ["x", "names"])


@dataclass(frozen=True)
class Sample:
    x: Tensor
    scale: float


@pytest.fixture
def two() -> Iterator[DataParallel]:
    strategy = DataParallel(["cpu", "cpu"])
    strategy.setup()
    yield strategy
    strategy.teardown()


class Sink:
    """Stands where the metrics of a run are, and keeps what reaches it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def log(self, *arguments: Any) -> None:
        self.calls.append(arguments)

    def values(self) -> dict[str, Any]:
        return {name: value for name, value, *_ in self.calls}


def run(module: Regression, step: Any, batch: Any) -> Sink:
    sink = Sink()
    module._log = sink.log
    output = step(batch, 0)
    (output["loss"] if isinstance(output, dict) else output).backward()
    return sink


# Against one device


@pytest.mark.parametrize("samples", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("replicas", [2, 3, 5])
def test_gradients_equal_one_device_also_if_the_batch_is_smaller_than_the_replicas(samples: int, replicas: int):
    by_hand, module, batch = Regression(), Regression(), make_batch(samples)
    expected = by_hand.training_step(batch, 0)
    expected.backward()

    strategy = DataParallel(["cpu"] * replicas)
    loss = strategy.training_step(module)(batch, 0)
    loss.backward()
    strategy.teardown()

    assert_close(loss, expected)
    assert_close(gradients(module), gradients(by_hand))


def test_logged_values_equal_one_device(two: DataParallel):
    class Logs(Regression):
        def training_step(self, batch, batch_idx):
            x, y = batch
            loss = nn.functional.mse_loss(self(x), y)
            self.log("loss", loss, prog_bar=True)
            self.log("sum", x.sum(), reduce_fx="sum")
            self.log("min", x.min(), reduce_fx="min")
            self.log("max", x.max(), reduce_fx=torch.max)
            self.log("number", 3)
            self.log_dict({"first": x[:, 0].mean(), "second": x[:, 1].mean()}, on_epoch=True)
            return loss

    alone, split, batch = Logs(), Logs(), make_batch(7)
    expected = run(alone, alone.training_step, batch)
    actual = run(split, two.training_step(split), batch)

    assert list(actual.values()) == list(expected.values())
    for name, value in expected.values().items():
        assert_close(actual.values()[name], torch.as_tensor(value), check_dtype=name != "number", msg=name)
    assert [options for _, _, *options in actual.calls] == [options for _, _, *options in expected.calls]
    assert not any(value.requires_grad for value in actual.values().values())


def test_an_own_batch_size_weighs_the_logged_value(two: DataParallel):
    class LogsTokens(Regression):
        def training_step(self, batch, batch_idx):
            x, y = batch
            self.log("per token", y[:, 0].mean(), batch_size=int(10 * x[0, 0]))
            return super().training_step(batch)

    module = LogsTokens()
    x, y = torch.ones(4, 4), torch.zeros(4, 2)
    x[2:], y[2:] = 3.0, 1.0
    sink = run(module, two.training_step(module), (x, y))
    ((_, value, *options),) = sink.calls
    assert_close(value, torch.tensor(0.75))
    assert options[7] == 40


def test_a_name_logged_twice_arrives_twice(two: DataParallel):
    class LogsTwice(Regression):
        def training_step(self, batch, batch_idx):
            self.log("x", 1.0)
            self.log("x", 2.0)
            return super().training_step(batch)

    module = LogsTwice()
    sink = run(module, two.training_step(module), make_batch(4))
    assert [(name, float(value)) for name, value, *_ in sink.calls] == [("x", 1.0), ("x", 2.0)]


def test_a_torchmetrics_object_is_refused(two: DataParallel):
    class LogsObject(Regression):
        def training_step(self, batch, batch_idx):
            self.log("accuracy", nn.Identity())
            return super().training_step(batch)

    module = LogsObject()
    with pytest.raises(MetricError, match=r"log\('accuracy'\) got a Identity .* gathers only numbers"):
        run(module, two.training_step(module), make_batch(4))


def test_sums_with_weights_equal_one_device(two: DataParallel):
    class Weighted(Regression):
        def training_step(self, batch, batch_idx):
            x, y = batch
            loss = nn.functional.mse_loss(self(x), y, reduction="sum")
            return {"loss": loss, "weight": len(x), "predictions": self(x).detach(), "first": float(x[0, 0])}

    alone, split, batch = Weighted(), Weighted(), make_batch(7)
    expected = alone.training_step(batch, 0)
    expected["loss"].backward()
    actual = two.training_step(split)(batch, 0)
    actual["loss"].backward()

    assert_close(actual["loss"], expected["loss"])
    assert actual["weight"] == 7
    assert_close(actual["predictions"], expected["predictions"])
    assert actual["first"] == [float(batch[0][0, 0]), float(batch[0][4, 0])]
    assert_close(gradients(split), gradients(alone))


def test_recurrent_weights_and_running_statistics_are_those_of_the_module(two: DataParallel):
    class Recurrent(Regression):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.rnn = nn.LSTM(4, 2)
            self.norm = nn.BatchNorm1d(2, momentum=None)

        def training_step(self, batch, batch_idx):
            x, y = batch
            self.norm(y)
            return nn.functional.mse_loss(self.rnn(x[None])[0][0], y)

    alone, split, batch = Recurrent(), Recurrent(), make_batch(6)
    alone.training_step(batch, 0).backward()
    two.training_step(split)(batch, 0).backward()

    assert_close(gradients(split.rnn), gradients(alone.rnn))
    assert split.norm.num_batches_tracked == 1
    assert_close(split.norm.running_mean, batch[1][:3].mean(dim=0))


def test_replicas_run_in_threads_of_their_own_and_see_a_whole_module(two: DataParallel):
    threads, seen = [], []

    class Looks(Regression):
        def training_step(self, batch, batch_idx):
            threads.append(threading.current_thread())
            seen.append((self.training, len(list(self.parameters())), self.device, len(batch[0])))
            return super().training_step(batch)

    two.training_step(Looks())(make_batch(4), 0)
    assert len(set(threads)) == 2
    assert seen == [(True, 4, CPU, 2)] * 2


def test_replicas_compute_under_the_callers_autocast_and_grad_mode(two: DataParallel):
    seen = []

    class Computes(Regression):
        def training_step(self, batch, batch_idx):
            output = self(batch[0])
            seen.append((output.dtype, output.requires_grad))
            return output.sum()

    step = two.training_step(Computes())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        step(make_batch(4), 0)
    step(make_batch(4), 0)
    assert seen == [(torch.bfloat16, False)] * 2 + [(torch.float32, True)] * 2


def test_a_replica_on_another_device_is_whole_and_tied_to_the_module():
    module, meta = Regression(), torch.device("meta")
    replica = replicate(module, meta, keeps_buffers=False)
    assert replica.device == replica.batches.device == meta
    assert {name for name, _ in replica.named_parameters()} == {name for name, _ in module.named_parameters()}
    assert replica.tied.weight is replica.inner.weight
    assert all(weight.grad_fn is not None for weight in replica.parameters())
    assert replica(torch.ones(2, 4, device=meta)).shape == (2, 2)
    assert module.device == CPU


def test_an_error_in_a_replica_says_where(two: DataParallel):
    class Fails(Regression):
        def training_step(self, batch, batch_idx):
            if threading.current_thread() is not threading.main_thread():
                raise ZeroDivisionError("in the second replica")

    with pytest.raises(ZeroDivisionError) as caught:
        two.training_step(Fails())(make_batch(4), 0)
    assert caught.value.__notes__ == ["in a replica of strategy 'dp' on cpu"]


# What is refused, or said


def test_without_cuda_it_says_so_once_and_runs_on_one_device():
    strategy = DataParallel()
    with pytest.warns(UserWarning, match="there are none: training on cpu alone") as caught:
        strategy.assign([CPU, CPU])
    assert len(caught) == 1
    assert strategy.devices == (CPU,)
    module = Regression()
    assert strategy.training_step(module) == module.training_step


def test_manual_optimization_is_refused(two: DataParallel):
    module = Regression()
    module.automatic_optimization = False
    with pytest.raises(ConfigError, match=r"2 replicas, and Regression has automatic_optimization = False"):
        two.training_step(module)


def test_no_devices_are_refused():
    with pytest.raises(ConfigError, match="at least one device"):
        DataParallel([])


# Splitting


def test_every_nesting_is_split_along_dimension_0():
    x = torch.arange(5)
    batch = {
        "pair": Pair(x, ["a", "b", "c", "d", "e"]),
        "samples": [Sample(x, 0.5), (x[:, None],)],
        "table": torch.ones(3),
        "scalar": torch.tensor(2.0),
        "name": "train",
    }
    (first, second), sizes = scatter(batch, [CPU, CPU])
    assert sizes == [3, 2]
    assert first["pair"].names == ["a", "b", "c"] and second["pair"].names == ["d", "e"]
    assert isinstance(second["pair"], Pair) and isinstance(second["samples"][0], Sample)
    assert second["pair"].x.tolist() == second["samples"][0].x.tolist() == [3, 4]
    assert second["samples"][1][0].shape == (2, 1)
    for part in (first, second):
        assert (part["table"].tolist(), part["scalar"].item(), part["name"]) == ([1, 1, 1], 2.0, "train")


@given(samples=st.integers(0, 20), devices=st.integers(1, 6))
def test_the_parts_are_the_batch_and_none_is_empty_unless_the_batch_is(samples: int, devices: int):
    batch = torch.arange(samples)
    parts, sizes = scatter(batch, [CPU] * devices)
    assert torch.cat(parts).tolist() == batch.tolist()
    assert [len(part) for part in parts] == sizes
    assert len(parts) <= devices
    assert min(sizes) > 0 or samples == 0


@pytest.mark.parametrize("batch", ["text", {"a": 1}, torch.tensor(1.0)])
def test_a_batch_without_rows_is_refused(batch: Any):
    with pytest.raises(DataError, match=f"cannot split a batch of type {type(batch).__name__}"):
        scatter(batch, [CPU, CPU])


def test_an_object_that_only_knows_how_to_move_is_refused():
    packed = nn.utils.rnn.pack_sequence([torch.ones(2), torch.ones(1)])
    with pytest.raises(DataError, match="cannot split a PackedSequence in the batch"):
        scatter((torch.ones(2), packed), [CPU, CPU])
