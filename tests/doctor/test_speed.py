from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

import trainkit
from trainkit import Trainer
from trainkit.doctor import speed
from trainkit.doctor.speed import SKIPPED, TIMED, Seen, try_fit
from trainkit.errors import ModuleError
from trainkit.testing import TinyData, TinyModule


class Clock:
    """Goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(speed, "time", clock)
    return clock


class Samples(Dataset[Any]):
    """Takes a while for each sample."""

    def __init__(self, clock: Clock, s: float) -> None:
        self.clock, self.s = clock, s

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.clock.now += self.s
        return torch.ones(4), torch.ones(2)


class Data(trainkit.DataModule):
    def __init__(self, loader: Any) -> None:
        super().__init__()
        self.loader = loader

    def train_dataloader(self) -> Any:
        return self.loader

    def val_dataloader(self) -> Any:
        raise AssertionError("nothing is validated")


def trial(loader: Any, module: TinyModule | None = None, **arguments: Any) -> Seen:
    trainer = Trainer(accelerator="cpu", fast_dev_run=SKIPPED + TIMED, **arguments)
    data = Data(loader)
    data.val_dataloader = lambda: TinyData(1)  # type: ignore[method-assign]
    return try_fit(trainer, module or TinyModule(), data)


@given(s=st.floats(1e-4, 0.1), step_s=st.floats(1e-4, 0.1))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_loader_and_step_are_timed_apart(clock: Clock, s: float, step_s: float) -> None:
    class Steps(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            # The first one is not like the others.
            clock.now += step_s if batch_idx else 100
            return super().training_step(batch, batch_idx)

    seen = trial(DataLoader(Samples(clock, s), batch_size=2), Steps())  # type: ignore[arg-type]
    assert (seen.batch_size, seen.batches) == (2, 32)
    assert seen.first_s == pytest.approx(2 * s) and seen.load_s == pytest.approx(2 * s)
    assert seen.step_s == pytest.approx(step_s)
    assert seen.waited == pytest.approx(2 * s / (2 * s + step_s))


def test_the_fit_ends_behind_the_timed_batches_and_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    module, calls = TinyModule(), []
    module.on_train_batch_end = lambda outputs, batch, batch_idx: calls.append(batch_idx)
    seen = trial(TinyData(100), module)
    assert calls == list(range(SKIPPED + TIMED)) and seen.steps == len(calls)
    assert os.listdir() == [] and capfd.readouterr().out == ""


@pytest.mark.parametrize("batches", [1, 2, SKIPPED, SKIPPED + 1])
def test_a_short_epoch_is_enough(batches: int) -> None:
    seen = trial(TinyData(batches))
    assert seen.steps == batches and seen.step_s is not None and seen.step_s > 0


def test_what_can_be_read_once_is_left_to_the_fit() -> None:
    def once() -> Iterator[Any]:
        yield from TinyData(5)

    seen = trial(once())
    assert (seen.load_s, seen.batches) == (None, float("inf"))
    assert seen.steps == 5 and seen.waited == 0.0


def test_only_plugins_of_each_batch_are_timed() -> None:
    class Sleeps(trainkit.Callback):
        def on_train_batch_end(self) -> None:
            pass

        def on_train_start(self) -> None:
            pass

    seen = trial(TinyData(30), callbacks=[Sleeps()])
    (row,) = [row for row in seen.plugins if row.plugin == "Sleeps"]
    assert row.hook == "on_train_batch_end" and row.calls == seen.steps
    assert not [row for row in seen.plugins if "Trial" in row.plugin]


def test_workers_load_while_a_step_runs() -> None:
    seen = Seen(trainer=Trainer(accelerator="cpu", logger=False), module=TinyModule(), load_s=0.3, step_s=0.1)
    assert seen.waited == pytest.approx(0.75)
    seen.loader = DataLoader(TinyData(1), num_workers=2)  # type: ignore[arg-type]
    assert seen.waited == pytest.approx(2 / 3)
    seen.load_s = 0.05
    assert seen.waited == 0.0


class Manual(TinyModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


class Within(trainkit.Callback):
    def on_before_backward(self) -> None:
        pass


@pytest.mark.parametrize(
    ("module", "arguments", "compiles"),
    [
        (TinyModule, {}, True),
        (Manual, {}, False),
        (TinyModule, {"callbacks": [Within()]}, False),
        (TinyModule, {"on_nonfinite_loss": "stop"}, False),
        (TinyModule, {"accumulate_grad_batches": "auto"}, False),
    ],
)
def test_whether_a_step_can_be_compiled_is_what_the_trainer_says(
    module: type[TinyModule], arguments: dict[str, Any], compiles: bool
) -> None:
    assert trial(TinyData(4), module(), **arguments).compiles_step is compiles
    made = lambda: Trainer(accelerator="cpu", logger=False, max_steps=0, compile="step", **arguments)  # noqa: E731
    if not compiles:
        with pytest.raises(trainkit.TrainkitError):
            made().fit(module(), TinyData(4))


def test_a_run_that_ends_the_program_is_an_error() -> None:
    class Leaves(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise SystemExit(3)

    with pytest.raises(ModuleError, match=r"SystemExit\(3\)"):
        trial(TinyData(4), Leaves())


def test_a_fit_without_batches_has_no_steps() -> None:
    assert trial(TinyData(4), limit_train_batches=0).steps == 0


class Own(DataLoader[Any]):
    """Has a constructor of its own."""

    def __init__(self) -> None:
        super().__init__(TinySamples(), batch_size=2, num_workers=1, persistent_workers=True, timeout=60)  # type: ignore[arg-type]


class TinySamples(Dataset[Any]):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(4), torch.ones(2)


class NeedsWorker(TinySamples):
    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        assert torch.utils.data.get_worker_info() is not None
        return super().__getitem__(index)


def test_a_loader_with_workers_is_timed_without_them_too() -> None:
    loader = Own()
    seen = trial(loader)
    assert seen.alone_s is not None and seen.load_s is not None and seen.alone_s > 0
    assert (loader.num_workers, loader.persistent_workers, loader.timeout) == (1, True, 60)
    assert trial(DataLoader(NeedsWorker(), batch_size=2, num_workers=1)).alone_s is None
    assert trial(DataLoader(TinySamples(), batch_size=2)).alone_s is None
