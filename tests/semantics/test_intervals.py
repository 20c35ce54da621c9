"""Intervals with a unit, for validation, saving, logging and schedules, each compared with a count made by hand."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from tests.semantics import interval_ranks as script
from trainkit.callbacks import Callback, ModelCheckpoint
from trainkit.testing import Recorder, TinyData, TinyModule, assert_same_weights, quiet_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*which cannot be told where to begin:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is never reached:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*has a length of .* and ended after:UserWarning"),
]

UNITS = ("steps", "batches", "samples", "epochs")
CASES = range(6)
"""Of each use and unit, drawn by chance."""


class Case(NamedTuple):
    """A run.

    Attributes:
        every: The interval, in ``unit``.
        unit: Its unit.
        accumulate: Batches per update.
        sizes: Samples of the batches of an epoch.
        epochs: How many.
        loader: Whether it has its length, none, or a longer one.
        skipped: The batches, counted over the run, that make no gradients.
        left: The index at which an epoch is left, by the epoch.
        stop: The batch behind which the run is killed.
        stage: When, within the hook at its end.
    """

    every: int
    unit: str
    accumulate: int
    sizes: list[int]
    epochs: int
    loader: str
    skipped: set[int]
    left: dict[int, int]
    stop: int
    stage: Any

    @property
    def text(self) -> str:
        return f"{self.every} {self.unit}"


class Moment(NamedTuple):
    """Where a run is behind a batch, or behind an epoch that ended otherwise than with a last batch."""

    batches: int
    steps: int
    samples: int
    epochs: int
    is_last: bool
    is_batch: bool
    has_open_group: bool


def case(unit: str, seed: int) -> Case:
    draw = random.Random(f"{unit} {seed}")
    most = {"steps": 6, "batches": 7, "samples": 25, "epochs": 2}[unit]
    sizes = [draw.randint(1, 6) for _ in range(draw.randint(3, 7))]
    epochs = draw.randint(2, 4)
    batches = len(sizes) * epochs
    return Case(
        draw.randint(1, most),
        unit,
        draw.choice([1, 1, 2, 3]),
        sizes,
        epochs,
        draw.choice(["list", "stream", "short"]),
        {batch for batch in range(batches) if batch % len(sizes) and draw.random() < 0.15},
        {draw.randrange(epochs): draw.randint(1, len(sizes) - 1)} if draw.random() < 0.5 else {},
        draw.randint(1, batches - len(sizes)),
        draw.choice(["setup", "observe", "persist"]),
    )


def moments(run: Case) -> Iterator[Moment]:
    batches = steps = samples = 0
    for epoch in range(run.epochs):
        group = 0
        for batch_idx, size in enumerate(run.sizes):
            if run.left.get(epoch) == batch_idx:
                steps += group > 0
                yield Moment(batches, steps, samples, epoch + 1, False, False, False)
                break
            is_last = batch_idx == len(run.sizes) - 1 and run.loader != "short"
            group += batches not in run.skipped
            if is_last or (batch_idx + 1) % run.accumulate == 0:
                steps, group = steps + (group > 0), 0
            batches, samples = batches + 1, samples + size
            yield Moment(batches, steps, samples, epoch + is_last, is_last, True, group > 0)
        else:
            if run.loader == "short":  # that no more comes is known behind the last batch
                steps += group > 0
                yield Moment(batches, steps, samples, epoch + 1, True, False, False)


class Stream:
    """Batches whose number nobody knows ahead."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class Short(Stream):
    """Fewer than are promised."""

    def __len__(self) -> int:
        return len(self.batches) + 2


def loader(run: Case) -> Any:
    batches = [TinyData(1, size, seed=index)[0] for index, size in enumerate(run.sizes)]
    return {"list": list, "stream": Stream, "short": Short}[run.loader](batches)


class Module(TinyModule):
    """Skips the batches it is told to, and is trained by a rate that differs with each step of its schedule."""

    case: Case
    schedule: dict[str, Any] | None = None

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("seen", float(self.trainer.progress.total_batches))
        return None if self.trainer.progress.total_batches in self.case.skipped else self.loss(batch)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        if self.schedule is None:
            return optimizer
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return [optimizer], [{"scheduler": self.scheduler, **self.schedule}]


def module_of(run: Case, schedule: dict[str, Any] | None = None) -> Module:
    module = Module()
    module.case, module.schedule = run, schedule
    return module


class Leaves(Callback):
    def __init__(self, run: Case) -> None:
        self.case = run

    def on_train_batch_start(self, trainer: Any, batch_idx: int) -> int | None:
        return -1 if self.case.left.get(trainer.current_epoch) == batch_idx else None


class KilledError(Exception):
    pass


class Kill(Callback):
    """Ends the process, as it were, behind a batch; what there is of it is a checkpoint."""

    def __init__(self, run: Case, path: Path) -> None:
        self.case, self.path, self.stage = run, path, run.stage

    def on_train_batch_end(self, trainer: Any) -> None:
        if trainer.progress.total_batches == self.case.stop:
            trainer.save_checkpoint(self.path)
            raise KilledError


def fit(run: Case, module: Module, *callbacks: Any, val: Any = None, ckpt_path: Any = None, **arguments: Any) -> Any:
    trainer = quiet_trainer(
        max_epochs=run.epochs,
        accumulate_grad_batches=run.accumulate,
        callbacks=[Leaves(run), *callbacks],
        **arguments,
    )
    trainer.fit(module, loader(run), val, ckpt_path=ckpt_path)
    return trainer


def in_one_go_and_killed(run: Case, events: Any, tmp_path: Path, **arguments: Any) -> list[list[Any]]:
    """Return the events of a run, and of the same one that is killed and goes on; their weights are equal."""
    schedule = arguments.pop("schedule", None)
    whole, recorder = module_of(run, schedule), events()
    fit(run, whole, recorder, **arguments)
    first, second, resumed = events(), events(), module_of(run, schedule)
    path = tmp_path / "killed.ckpt"
    with pytest.raises(KilledError):
        fit(run, module_of(run, schedule), first, Kill(run, path), **arguments)
    fit(run, resumed, second, ckpt_path=path, **arguments)
    assert_same_weights(resumed, whole)
    return [recorder.found, first.found + second.found]


class Validations(Callback):
    def __init__(self) -> None:
        self.found: list[Any] = []

    def on_validation_start(self, trainer: Any) -> None:
        self.found.append(trainer.progress.total_batches)


class Rows(Callback):
    def __init__(self) -> None:
        self.found: list[Any] = []

    def on_log(self, metrics: dict[str, float], step: int) -> None:
        self.found += [step] if "seen" in metrics else []


class Rates(Callback):
    """How often the schedule has stepped, behind each batch, and at the end."""

    stage = "setup"  # ahead of the plugin that kills

    def __init__(self) -> None:
        self.found: list[Any] = []

    def on_train_batch_end(self, trainer: Any, module: Any) -> None:
        self.found.append((trainer.progress.total_batches, module.scheduler.last_epoch))

    def on_train_end(self, module: Any) -> None:
        self.found.append(("end", module.scheduler.last_epoch))


every_case = pytest.mark.parametrize("seed", CASES)
every_unit = pytest.mark.parametrize("unit", UNITS)


@every_unit
@every_case
def test_validation(unit: str, seed: int, tmp_path: Path) -> None:
    run, expected, before = case(unit, seed), [], 0
    for moment in moments(run):
        count = getattr(moment, unit)
        is_place = moment.is_last or (moment.is_batch and unit != "epochs")
        if is_place and count // run.every > before // run.every:
            expected.append(moment.batches)
            before = count
    found = in_one_go_and_killed(run, Validations, tmp_path, val=TinyData(1), val_check_interval=run.text)
    assert found == [expected, expected]


class KillInValidation(Kill):
    """The same within a validation, in one of its hooks."""

    hook = "on_validation_batch_end"

    def on_train_batch_end(self, trainer: Any) -> None:
        pass

    def on_validation_batch_end(self, trainer: Any) -> None:
        self.kill(trainer, "on_validation_batch_end")

    def on_validation_end(self, trainer: Any) -> None:
        self.kill(trainer, "on_validation_end")

    def kill(self, trainer: Any, hook: str) -> None:
        if hook == self.hook and trainer.progress.total_batches >= self.case.stop:
            trainer.save_checkpoint(self.path)
            raise KilledError


@every_unit
@pytest.mark.parametrize("hook", ["on_validation_batch_end", "on_validation_end"])
def test_a_validation_that_is_killed_is_made_once(unit: str, hook: str, tmp_path: Path) -> None:
    run = case(unit, 0)._replace(every=1, stop=3, stage="observe", left={})

    def validated(*callbacks: Any, ckpt_path: Any = None) -> list[Any]:
        recorder = Recorder(["on_validation_end"], look=lambda trainer, module: trainer.progress.total_batches)
        try:
            callbacks = (recorder, *callbacks)
            fit(run, module_of(run), *callbacks, val=TinyData(2), ckpt_path=ckpt_path, val_check_interval=run.text)
        except KilledError:
            pass
        return recorder.seen("on_validation_end")

    kill = KillInValidation(run, tmp_path / "killed.ckpt")
    kill.hook = hook
    assert validated(kill) + validated(ckpt_path=kill.path) == validated()
    assert kill.path.exists()


@every_unit
@every_case
def test_saving(unit: str, seed: int, tmp_path: Path) -> None:
    run, expected, before, is_due = case(unit, seed), [0], 0, False
    for moment in moments(run):
        count = getattr(moment, unit)
        is_due, before = is_due or count // run.every > before // run.every, count
        if is_due and not moment.has_open_group:
            is_due = False
            # Without an update since the newest save there is nothing to save.
            expected += [moment.steps] if moment.steps != expected[-1] else []
    names = sorted(f"step={step}.ckpt" for step in expected[1:])

    def saves(folder: str) -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path / folder, "{step}", save_top_k=-1, every=run.text)

    def fit_and_save(module: Module, folder: str, *callbacks: Any, ckpt_path: Any = None) -> None:
        fit(run, module, saves(folder), *callbacks, ckpt_path=ckpt_path, enable_checkpointing=True, keep_last=False)

    whole, resumed = module_of(run), module_of(run)
    fit_and_save(whole, "whole")
    with pytest.raises(KilledError):
        fit_and_save(module_of(run), "killed", Kill(run, tmp_path / "killed.ckpt"))
    fit_and_save(resumed, "killed", ckpt_path=tmp_path / "killed.ckpt")
    for folder in ("whole", "killed"):
        assert sorted(path.name for path in (tmp_path / folder).glob("*.ckpt")) == names
    assert_same_weights(resumed, whole)


@every_unit
@every_case
def test_logging(unit: str, seed: int, tmp_path: Path) -> None:
    run, expected, before, step = case(unit, seed), [], 0, 0
    for moment in moments(run):
        if moment.steps != step:  # a row has the values of an update
            step, count = moment.steps, getattr(moment, unit)
            expected += [step] if count // run.every > before // run.every else []
            before = count
    found = in_one_go_and_killed(run, Rows, tmp_path, log_every_n_steps=run.text)
    assert found == [expected, expected]


@every_unit
@every_case
def test_schedules(unit: str, seed: int, tmp_path: Path) -> None:
    run, expected, times, step, before = case(unit, seed), [], 0, 0, 0
    for moment in moments(run):
        # No rate changes within a group, and an epoch that was left counts at the end of the next.
        if moment.is_last if unit == "epochs" else moment.steps != step:
            step, count = moment.steps, getattr(moment, unit)
            times, before = times + count // run.every - before // run.every, count
        expected += [(moment.batches, times)] if moment.is_batch else []
    expected.append(("end", times))
    found = in_one_go_and_killed(run, Rates, tmp_path, schedule={"every": run.text})
    assert found == [expected, expected]


@pytest.mark.parametrize("every", [{"val_check_interval": f"4 {unit}"} for unit in ("steps", "batches", "samples")])
def test_what_an_earlier_fit_has_passed_is_not_due_in_the_next(every: dict[str, Any]) -> None:
    recorder = Validations()
    trainer = quiet_trainer(max_epochs=1, callbacks=[recorder], **every)
    data = [TinyData(1, 1)[0]] * 5
    trainer.fit(module := TinyModule(), data)  # nothing to validate with
    trainer.max_epochs = 3
    trainer.fit(module, data, TinyData(1))
    assert recorder.found == [8, 12]


# Time


class Clocked(TinyModule):
    """Each batch takes a minute of a clock that stands still otherwise."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock = clock

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.clock[0] += 60.0
        self.log("seen", 1.0)
        return self.loss(batch)


def clocked(clock: list[float], folder: Path, *callbacks: Any, ckpt_path: Any = None) -> list[int]:
    rows = Rows()
    trainer = quiet_trainer(
        callbacks=[rows, ModelCheckpoint(folder, "{step}", save_top_k=-1, every="3 min"), *callbacks],
        enable_checkpointing=True,
        keep_last=False,
        log_every_n_steps="2 min",
    )
    trainer.fit(Clocked(clock), TinyData(10), ckpt_path=ckpt_path)
    return rows.found


def test_time_goes_on_where_a_killed_run_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert clocked(clock, tmp_path / "whole") == [2, 4, 6, 8, 10]
    run = case("steps", 0)._replace(stop=5, stage="observe")
    with pytest.raises(KilledError):
        clocked(clock, tmp_path / "killed", Kill(run, tmp_path / "killed.ckpt"))
    clock[0] += 1e6  # a queue
    # The row of the fourth minute was sent, and that of the sixth is next, although the process is a minute old then.
    assert clocked(clock, tmp_path / "killed", ckpt_path=tmp_path / "killed.ckpt") == [6, 8, 10]
    for folder in ("whole", "killed"):
        assert {path.name for path in (tmp_path / folder).iterdir()} == {f"step={step}.ckpt" for step in (3, 6, 9)}


# Several ranks


@pytest.mark.distributed
@pytest.mark.slow
def test_ranks_count_the_samples_of_all(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    subprocess.run([*torchrun, script.__file__, tmp_path], env=environment, check=True, timeout=120)
    ranks = [torch.load(tmp_path / f"rank_{rank}.pt") for rank in range(2)]
    # In both: 5, 3, 5, 3 and 6 samples.
    expected = {
        "samples": [5, 8, 13, 16, 22],
        "validated": [2, 4],
        "rows": [2, 3, 5],
        "stepped": [1, 2, 4, 5, 7],
    }
    assert ranks == [expected, expected]
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {"step=3.ckpt", "step=5.ckpt"}
    assert not list(tmp_path.glob("time/*"))
