from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import IterableDataset

from trainkit.hooks.timing import OF_STEPS
from trainkit.profilers import sampled_steps
from trainkit.profilers.sampled_steps import FIRST, SampledSteps, steps_between
from trainkit.profilers.simple import SimpleProfiler
from trainkit.testing import TinyData, TinyModule, assert_same_weights, quiet_trainer


class Manual(TinyModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


class Closure(TinyModule):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), max_iter=2)


class Skips(TinyModule):
    """Leaves an epoch in a step that is measured, and later ones in steps that are not."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 12 else None


class Mixed(TinyModule):
    """Some batches have no loss."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx % 3 == 0 else self.loss(batch)


class Endless(IterableDataset[Any]):
    """Batches without a length."""

    def __iter__(self) -> Any:
        return iter(TinyData(40))


@pytest.fixture(autouse=True)
def some_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one step in five be measured, however fast they are."""
    monkeypatch.setattr(sampled_steps, "steps_between", lambda step_s: 5)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (TinyModule, {}),
        (TinyModule, {"accumulate_grad_batches": 3}),
        (TinyModule, {"gradient_clip_val": 0.1}),
        (TinyModule, {"precision": "bf16-mixed"}),
        (TinyModule, {"val_check_interval": 7}),
        (TinyModule, {"max_steps": 55}),
        (TinyModule, {"accumulate_grad_batches": "auto"}),
        (TinyModule, {"barebones": True}),
        (Manual, {}),
        (Closure, {}),
        (Skips, {}),
        (Mixed, {}),
    ],
)
def test_a_run_is_the_same_with_and_without(kind: type[TinyModule], arguments: dict[str, Any]) -> None:
    measured, plain, data = kind(), kind(), TinyData(40)
    arguments = {"max_epochs": 3, **arguments}
    trainer = quiet_trainer(**arguments, plugins={"timing": True})
    trainer.fit(measured, data, None if "barebones" in arguments else TinyData(2))
    quiet_trainer(**arguments).fit(plain, data, None if "barebones" in arguments else TinyData(2))
    assert_same_weights(measured, plain)
    ledger = trainer.timing
    assert ledger is not None
    assert ledger.steps == trainer.progress.total_batches
    assert FIRST <= ledger.measured_steps < ledger.steps
    assert all(ledger.seconds_of(name) > 0 for name in ("waiting for data", "forward", "backward", "optimizer"))


@pytest.mark.slow
@pytest.mark.parametrize("how", [True, "step"])
def test_a_compiled_run_is_the_same_with_and_without(how: Any) -> None:
    measured, plain, data = TinyModule(), TinyModule(), TinyData(30)
    trainer = quiet_trainer(max_epochs=2, compile=how, profiler="simple")
    trainer.fit(measured, data)
    quiet_trainer(max_epochs=2, compile=how).fit(plain, data)
    assert_same_weights(measured, plain)
    assert trainer.timing is not None
    assert (trainer.timing.seconds_of("compiled step") > 0) is (how == "step")


def test_batches_without_a_length_are_measured() -> None:
    trainer = quiet_trainer(max_epochs=3, profiler="simple")
    trainer.fit(TinyModule(), torch.utils.data.DataLoader(Endless(), batch_size=None))
    assert trainer.timing is not None and trainer.timing.steps == 120


class Notes:
    """Notes in which steps the hooks of steps are others than usual."""

    stage = "setup"

    def __init__(self) -> None:
        self.measured: list[int] = []

    def on_train_epoch_start(self, trainer: Any) -> None:
        self.usual = functions_of(trainer)

    def on_train_batch_end(self, trainer: Any) -> None:
        if functions_of(trainer) != self.usual:
            self.measured.append(trainer.progress.total_batches - 1)


def functions_of(trainer: Any) -> list[Any]:
    run = trainer.fit_run
    return [*(getattr(trainer.hooks.hooks, hook) for hook in sorted(OF_STEPS)), run.transfer, run.forward]


def test_steps_between_measured_ones_run_the_functions_that_they_run_without() -> None:
    notes = Notes()
    trainer = quiet_trainer(max_epochs=10, profiler="simple", callbacks=[notes])
    trainer.fit(TinyModule(), TinyData(30))
    assert notes.measured[:FIRST] == list(range(FIRST))
    gaps = [b - a for a, b in zip(notes.measured[FIRST - 1 :], notes.measured[FIRST:], strict=False)]
    assert set(gaps) <= set(range(1, 10)) and len(set(gaps)) > 3
    assert functions_of(trainer)[:-2] == [getattr(trainer.hooks.hooks, hook) for hook in sorted(OF_STEPS)]
    optimizer = trainer.optimizers[0]
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_which_steps_are_measured_is_drawn_from_nobodys_generator() -> None:
    random.seed(3)
    torch.manual_seed(3)
    expected = random.random(), torch.rand(1)
    random.seed(3)
    torch.manual_seed(3)
    quiet_trainer(max_epochs=3, profiler="simple").fit(TinyModule(), TinyData(30))
    assert (random.random(), torch.rand(1)) == expected


@settings(deadline=None, max_examples=20)
@given(per_epoch=st.integers(1, 45), epochs=st.integers(1, 4), fails_at=st.none() | st.integers(0, 30))
def test_weights_stand_for_the_steps_that_were_not_measured(per_epoch: int, epochs: int, fails_at: int | None) -> None:
    seen: list[SampledSteps] = []

    class Fails(TinyModule):
        def on_train_batch_end(self, batch_idx: int) -> None:
            if batch_idx == fails_at:
                raise LookupError

    class Peeks(SimpleProfiler):
        def on_train_start(self) -> None:  # type: ignore[override]
            super().on_train_start()
            assert self._steps is not None
            seen.append(self._steps)

    trainer = quiet_trainer(max_epochs=epochs, profiler=Peeks())
    try:
        trainer.fit(Fails(), TinyData(per_epoch))
    except LookupError:
        assert fails_at is not None
    sample = seen[0].sample
    assert 0 <= sample.measured - min(FIRST, sample.steps) <= sample.steps
    # All but those behind the newest measured one; the first ones count next to nothing.
    left = sample.steps - sample.measured - sum(each.steps for each in sample.slow.values())
    assert sample.weight <= sample.steps - min(FIRST, sample.steps) + 1e-3
    assert sample.weight >= left - 30
    trainer.timing  # noqa: B018
    assert not trainer.hooks.timing._in_sample


def test_the_faster_a_step_the_fewer_are_measured() -> None:
    assert [steps_between(seconds) for seconds in (1.0, 9e-3, 9.9e-4, 1.001e-4)] == [1, 3, 21, 200]


def test_an_exception_in_a_measured_step_leaves_nothing_behind() -> None:
    class Fails(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise LookupError

    trainer = quiet_trainer(max_epochs=1, profiler="simple")
    with pytest.raises(LookupError):
        trainer.fit(Fails(), TinyData(3))
    assert not trainer.optimizers[0]._optimizer_step_pre_hooks
    trainer.fit(TinyModule(), TinyData(3))
    assert trainer.timing is not None and trainer.timing.steps == 3
