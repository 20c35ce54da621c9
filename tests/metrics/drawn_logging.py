"""Programs that log, drawn from a seed, and beside each what its rows and metrics must be: by numpy, in float64.

``python -m tests.metrics.drawn_logging 0 1000`` tries the seeds from 0 to 999, and prints what differs.
"""

from __future__ import annotations

import copy
import math
import random
import sys
import tempfile
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch.utils.data import DataLoader

from trainkit.callbacks import Callback
from trainkit.testing import Recorder, TinyModule, quiet_trainer


def half(x: float) -> Any:
    return torch.tensor(x * 100).to(torch.bfloat16)


def with_graph(x: float) -> Any:
    return torch.tensor(x, dtype=torch.float64, requires_grad=True) * 3


KINDS = {
    "int": lambda x: 67_108_463 + round(x * 20_000),
    "float": lambda x: x * 1e5,
    "bool": lambda x: x > 0.5,
    "np.float32": lambda x: np.float32(x),
    "np.int64": lambda x: np.int64(67_108_463 + round(x * 20_000)),
    "long": lambda x: torch.tensor(67_108_463 + round(x * 20_000)),
    "float32": lambda x: torch.tensor(x - 0.5),
    "float64": lambda x: torch.tensor([x], dtype=torch.float64),
    "half": half,
    "with graph": with_graph,
    "not finite": lambda x: torch.tensor((1.0, math.nan, math.inf, 2.0)[int(x * 4)]),
}
REDUCTIONS = {"mean": np.mean, "sum": np.sum, "min": np.min, "max": np.max}
METRICS = {"mean": torchmetrics.MeanMetric, "sum": torchmetrics.SumMetric, "max": torchmetrics.MaxMetric}
PRECISIONS = ("32-true", "64-true", "bf16-true", "16-true", "bf16-mixed")

TRANSFER = ("on_before_batch_transfer", "on_after_batch_transfer")
BATCH_HOOKS = {
    "train": (
        *TRANSFER, "on_train_batch_start", "training_step", "on_before_backward", "on_after_backward",
        "on_before_optimizer_step", "on_train_batch_end",
    ),
    "val": (*TRANSFER, "on_validation_batch_start", "validation_step", "on_validation_batch_end"),
}  # fmt: skip
START_HOOKS = {
    "train": ("on_train_start", "on_train_epoch_start"),
    "val": ("on_validation_start", "on_validation_epoch_start"),
}
END_HOOKS = {"train": ("on_train_epoch_end",), "val": ("on_validation_epoch_end", "on_validation_end")}


@dataclass(frozen=True)
class Log:
    """One call of ``self.log`` in one hook: a value, or the object ``metric`` of the module."""

    name: str
    stage: str
    hook: str
    kind: str
    reduce_fx: str
    flags: tuple[bool | None, bool | None]  # on_step, on_epoch
    logger: bool
    add_dataloader_idx: bool
    batch_size: int | None
    every: int  # of the batches of a loader, or of the phases
    metric: int | None
    forward: bool  # whether the object is called, which gives the value of a batch, or updated

    @property
    def in_batch(self) -> bool:
        return self.hook in BATCH_HOOKS[self.stage]

    @property
    def on_step(self) -> bool:
        return self.in_batch and self.stage == "train" if self.flags[0] is None else self.flags[0]

    @property
    def on_epoch(self) -> bool:
        return not (self.in_batch and self.stage == "train") if self.flags[1] is None else self.flags[1]

    def key(self, suffix: str, index: int | None) -> str:
        """Return the name in tables; ``suffix`` is "step" or "epoch"."""
        middle = f"_{suffix}" if self.on_step and self.on_epoch else ""
        return f"{self.name}{middle}" + ("" if index is None else f"/dataloader_idx_{index}")


@dataclass(frozen=True)
class Program:
    logs: tuple[Log, ...]
    metrics: tuple[str, ...]
    train: tuple[int, ...]  # sizes of batches
    val: tuple[tuple[int, ...], ...]
    arguments: dict[str, Any]

    @property
    def accumulates(self) -> int:
        return self.arguments["accumulate_grad_batches"]


def draw(seed: int) -> Program:
    """Return the program of ``seed``."""
    rng = random.Random(seed)

    def sizes() -> tuple[int, ...]:
        return tuple(rng.randint(1, 5) for _ in range(rng.randint(1, 6)))

    train, val = sizes(), tuple(sizes() for _ in range(rng.choice((0, 1, 1, 2, 3))))
    metrics = tuple(rng.choice(sorted(METRICS)) for _ in range(2))
    forwards = {index: rng.random() < 0.7 for index in (None, 0, 1)}
    logs = []
    for stage in ("train", "val"):
        for name in rng.sample("abcdefgh", rng.randint(1, 5)):
            metric = rng.choice((None, None, 0, 1))
            places = (BATCH_HOOKS, END_HOOKS) if metric is not None else (BATCH_HOOKS, START_HOOKS, END_HOOKS)
            hook = rng.choice(rng.choice((places[0], *places))[stage])
            in_batch = hook in BATCH_HOOKS[stage]
            flags = rng.choice(((None, None), (True, True), (False, True), (True, False)))
            logs.append(
                Log(
                    name, stage, hook, rng.choice(sorted(KINDS)), rng.choice(("mean", "mean", *sorted(REDUCTIONS))),
                    flags if in_batch else (None, None), rng.random() < 0.8, rng.random() < 0.8,
                    rng.choice((None, None, None, 0, 3)), rng.choice((1, 1, 1, 2)), metric, forwards[metric],
                )
            )  # fmt: skip
    # Each log in a batch updates its object, which is refused between two names of one batch.
    updates = {(log.stage, log.metric): log for log in reversed(logs) if log.in_batch and log.metric is not None}
    logs = [log for log in logs if updates.get((log.stage, log.metric), log) is log or not log.in_batch]
    # An object is logged at an end only where batches have given it something.
    given = {(log.stage, log.metric) for log in logs if log.in_batch}
    logs = [log for log in logs if log.in_batch or log.metric is None or (log.stage, log.metric) in given]
    interval = rng.choice((None, None, rng.randint(1, len(train))))
    arguments = {
        "precision": rng.choice(PRECISIONS),
        "max_epochs": rng.randint(1, 3),
        "accumulate_grad_batches": rng.choice((1, 1, 2, 3)),
        "log_every_n_steps": rng.randint(1, 3),
        "num_sanity_val_steps": rng.choice((0, 2)),
        "check_val_every_n_epoch": rng.choice((1, 1, 2)),
    } | ({} if interval is None else {"val_check_interval": interval})
    return Program(tuple(logs), metrics, train, val, arguments)


class ByHand:
    """What loggers and callbacks must get, made from what a program logs and when."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.callback: dict[str, float] = {}
        self.results: list[dict[str, float]] = []
        self.step = self.epoch = 0
        self._phases: list[Phase] = []
        self._waiting: dict[str, float] = {}
        self._group: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)

    @property
    def is_validating(self) -> bool:
        return bool(self._phases) and self._phases[-1].stage == "val"

    def begin(self, stage: str, epoch: int) -> None:
        self.epoch = epoch
        self._phases.append(Phase(stage, len(self.program.val) if stage == "val" else 1))

    def log(self, log: Log, number: float | None, size: int, loader: int) -> None:
        """Note one call. ``number`` is what a metric object was given; None if it was given nothing."""
        phase = self._phases[-1]
        index = loader if log.in_batch and phase.num_loaders > 1 and log.add_dataloader_idx else None
        weight = (size if log.in_batch else 1) if log.batch_size is None else log.batch_size
        phase.logged.setdefault((log, index), []).append((number, weight))
        phase.loaders[log, index].add(loader)
        if log.metric is not None and number is not None:
            phase.given[log.metric].append((loader, number))
        if log.on_step and (log.metric is None or log.forward):
            self._log_step(log, number, weight, index)
        if not log.in_batch:
            self._publish(log, index, self._value(log, index))

    def _log_step(self, log: Log, number: float, weight: float, index: int | None) -> None:
        key = log.key("step", index)
        if log.stage == "train":
            self.callback[log.name] = self.callback[key] = number
        if not log.logger:
            return
        if log.stage == "train" and self.program.accumulates > 1:
            self._group[key, log.reduce_fx].append((number, weight))
        elif log.stage == "train":
            self._waiting[key] = number
        else:
            self._phases[-1].waiting[key] = number

    def end_batch(self, *, closes_group: bool = False) -> None:
        """End a batch: a row may be due."""
        phase = self._phases[-1]
        if phase.stage == "val":
            self._send(phase.waiting)
            phase.waiting.clear()
        elif closes_group:
            self._waiting |= {key: reduced(values, by) for (key, by), values in self._group.items()}
            self._group.clear()
            self.step += 1
            if self.step % self.program.arguments["log_every_n_steps"] == 0:
                self._send(self._waiting)
                self._waiting.clear()

    def end_batches(self, *, in_batch: bool = True) -> None:
        for log, index in self._phases[-1].logged:
            if log.in_batch is in_batch and log.on_epoch:
                self._publish(log, index, self._value(log, index))

    def end(self) -> None:
        """End a phase, with its row."""
        self.end_batches(in_batch=False)
        phase = self._phases.pop()
        self._send(phase.row)
        if phase.stage == "val":
            self.results = phase.results

    def _send(self, row: dict[str, float]) -> None:
        if row:
            self.rows.append((self.step, {"epoch": self.epoch, **row}))

    def _publish(self, log: Log, index: int | None, value: float) -> None:
        phase = self._phases[-1]
        key, plain = log.key("epoch", index), log.name + ("" if index is None else f"/dataloader_idx_{index}")
        self.callback |= {key: value, plain: value}
        for loader in phase.loaders[log, index] if log.in_batch else range(phase.num_loaders):
            phase.results[loader] |= {key: value, plain: value}
        if log.logger:
            phase.row[key] = value

    def _value(self, log: Log, index: int | None) -> float:
        phase = self._phases[-1]
        if log.metric is None:
            return reduced(phase.logged[log, index], log.reduce_fx)
        given = [(number, 1.0) for loader, number in phase.given[log.metric] if index in (None, loader)]
        return reduced(given, self.program.metrics[log.metric])


class Phase:
    """What was logged in one training epoch or validation."""

    def __init__(self, stage: str, num_loaders: int) -> None:
        self.stage, self.num_loaders = stage, num_loaders
        self.logged: dict[tuple[Log, int | None], list[tuple[float, float]]] = {}
        self.loaders: defaultdict[tuple[Log, int | None], set[int]] = defaultdict(set)
        self.given: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
        self.waiting: dict[str, float] = {}
        self.row: dict[str, float] = {}
        self.results: list[dict[str, float]] = [{} for _ in range(num_loaders)]


def reduced(values: list[tuple[float, float]], by: str) -> float:
    numbers, weights = np.array(values, dtype=np.float64).T
    with np.errstate(all="ignore"):
        return float((numbers * weights).sum() / weights.sum() if by == "mean" else REDUCTIONS[by](numbers))


class Logs(TinyModule):
    """Logs as its program says, and notes it by hand."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program, self.by_hand = program, ByHand(program)
        self.metrics = torch.nn.ModuleList(METRICS[kind]() for kind in program.metrics)
        self.drawn = random.Random(0)
        self.place = (0, 0, 0)  # batch_idx, the size of the batch, dataloader_idx
        self.train_place = self.place
        self.batches: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.goes_on = False

    @property
    def stage(self) -> str:
        return "train" if self.trainer.training else "val"

    def at(self, hook: str) -> None:
        """Log what the program logs in ``hook``."""
        batch_idx, size, loader = self.place
        for log in self.program.logs:
            if log.hook != hook or log.stage != self.stage:
                continue
            if log.in_batch and batch_idx % log.every:
                continue
            number = self.log_one(log)
            if not self.trainer.sanity_checking and number is not _NOTHING:
                self.by_hand.log(log, number, size, loader)

    def log_one(self, log: Log) -> Any:
        x, number = self.drawn.random(), None
        value = KINDS[log.kind](x)
        if log.metric is None:
            number = float(value.detach() if isinstance(value, torch.Tensor) else value)
        else:
            value = self.metrics[log.metric]
            if log.in_batch:
                part = torch.tensor(x)
                number = float(part)
                value(part) if log.forward else value.update(part)
            elif not value.update_called:
                return _NOTHING  # torchmetrics would warn
        options = {} if log.batch_size is None else {"batch_size": log.batch_size}
        on_step, on_epoch = log.flags
        self.log(
            log.name, value, on_step=on_step, on_epoch=on_epoch, logger=log.logger, reduce_fx=log.reduce_fx,
            add_dataloader_idx=log.add_dataloader_idx, **options,
        )  # fmt: skip
        if isinstance(value, torch.Tensor) and not value.requires_grad:
            value.zero_()  # its value was taken when it was logged
        return number

    # Hooks

    def on_train_start(self) -> None:
        if self.goes_on:
            return  # like other hooks of a start, it was called before the stop
        self.by_hand.begin("train", 0)
        self.at("on_train_start")

    def on_train_epoch_start(self) -> None:
        if self.current_epoch:
            self.by_hand.begin("train", self.current_epoch)
        self.at("on_train_epoch_start")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        place = self.stage, dataloader_idx
        self.place = self.batches[place], len(batch), dataloader_idx
        self.batches[place] += 1
        self.at("on_before_batch_transfer")
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.at("on_after_batch_transfer")
        return batch

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.at("on_train_batch_start")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.at("training_step")
        return self.layer.weight.sum()

    def on_before_backward(self, loss: Any) -> None:
        self.at("on_before_backward")

    def on_after_backward(self) -> None:
        self.at("on_after_backward")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.at("on_before_optimizer_step")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.at("on_train_batch_end")
        is_last = batch_idx + 1 == len(self.program.train)
        self.by_hand.end_batch(closes_group=is_last or (batch_idx + 1) % self.program.accumulates == 0)

    def on_train_epoch_end(self) -> None:
        self.batches.clear()
        self.by_hand.end_batches()
        self.at("on_train_epoch_end")
        self.by_hand.end()

    def on_validation_start(self) -> None:
        self.is_continued = self.by_hand.is_validating
        if self.is_continued:
            return
        self.train_place = self.place
        self.batches = defaultdict(int, {key: value for key, value in self.batches.items() if key[0] == "train"})
        if not self.trainer.sanity_checking:
            self.by_hand.begin("val", self.current_epoch)
        self.at("on_validation_start")

    def on_validation_epoch_start(self) -> None:
        if self.is_continued:
            return
        self.at("on_validation_epoch_start")

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.at("on_validation_batch_start")

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.at("validation_step")

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.at("on_validation_batch_end")
        if not self.trainer.sanity_checking:
            self.by_hand.end_batch()

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.by_hand.end_batches()
        self.at("on_validation_epoch_end")

    def on_validation_end(self) -> None:
        self.at("on_validation_end")
        if not self.trainer.sanity_checking:
            self.by_hand.end()
        self.place = self.train_place


_NOTHING = object()


def loader(sizes: tuple[int, ...]) -> DataLoader:
    """Return a loader of batches with these numbers of samples."""
    ends = np.cumsum(sizes)
    batches = [list(range(end - size, end)) for end, size in zip(ends, sizes, strict=True)]
    return DataLoader(torch.zeros(int(ends[-1]), 4), batch_sampler=batches)


class Saves(Callback):
    """Saves at the ``at``-th batch of all, and notes how far the module is."""

    stage = "persist"

    def __init__(self, path: Path, at: int) -> None:
        self.path, self.left = path, at
        self.noted: dict[str, Any] = {}

    def on_train_batch_end(self, trainer: Any, module: Any) -> None:
        self.left -= not trainer.sanity_checking
        if self.left == 0 and not self.noted:
            trainer.save_checkpoint(self.path)
            self.noted = {name: copy.deepcopy(getattr(module, name)) for name in _STATE}
            self.noted["by_hand"].rows = []

    on_validation_batch_end = on_train_batch_end


_STATE = ("by_hand", "drawn", "place", "train_place", "batches")


def differences(seed: int, folder: Path) -> list[str]:
    """Run the program of ``seed``: a fit, the rest of that fit once more, and a validation.

    Returns:
        What is not as it is by hand.
    """
    program = draw(seed)
    saves = Saves(folder / f"{seed}.ckpt", at=random.Random(seed).randint(1, 9))
    module, found = Logs(program), []
    # States of torchmetrics are float32.
    tolerances = {log.name: 1e-6 for log in program.logs if log.metric is not None}

    def compare(what: str, own: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
        if len(own) != len(expected):
            found.append(f"{what}: {len(own)} for {len(expected)}")
        for row, by_hand in zip(own, expected, strict=False):
            for name in sorted(row.keys() | by_hand.keys()):
                value, right = row.get(name), by_hand.get(name)
                tolerance = tolerances.get(name[0], 1e-12)  # names are single letters
                if None in (value, right) or not np.isclose(value, right, rtol=tolerance, atol=0, equal_nan=True):
                    found.append(f"{what} at step {by_hand.get('step')}: {name} is {value} and not {right}")

    for stage in ("fit", "resumed", "validate"):
        recorder = Recorder(["on_log"])
        trainer = quiet_trainer(**program.arguments, callbacks=[recorder, *([saves] if stage == "fit" else [])])
        val = [loader(sizes) for sizes in program.val]
        if stage == "fit":
            trainer.fit(module, loader(program.train), val or None)
        elif stage == "resumed" and saves.noted:
            module = Logs(program)
            vars(module).update(saves.noted, goes_on=True)
            trainer.fit(module, loader(program.train), val or None, ckpt_path=saves.path)
        elif stage == "validate" and val:
            module = Logs(program)
            results = trainer.validate(module, val, verbose=False)
            compare(f"{stage}: results", results, module.by_hand.results)
        else:
            continue
        rows = [{"step": call["step"], **call["metrics"]} for call in recorder.arguments("on_log")]
        compare(f"{stage}: row", rows, [{"step": step, **row} for step, row in module.by_hand.rows])
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        compare(f"{stage}: callback_metrics", [metrics], [module.by_hand.callback])
    return found


def main(first: int, last: int) -> None:
    for seed in range(first, last):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with tempfile.TemporaryDirectory() as folder:
                    found = differences(seed, Path(folder))
            except Exception as error:
                found = [repr(error)]
        told = {str(warning.message) for warning in caught}
        for line in (*found, *(f"warning: {each}" for each in told)):
            print(seed, line)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
