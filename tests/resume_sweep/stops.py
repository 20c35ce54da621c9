"""Stopping a program at one place, continuing it, and telling what differs from the run that was left alone.

Each run is a process of its own, forked from this one, so that it has nothing of the run before but what is in files.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

import trainkit
from tests.resume_sweep.programs import Net, Program, draw_program, make
from trainkit.checkpoint.diff import differences
from trainkit.errors import ConfigError, OptimizerError, PluginError
from trainkit.hooks.manager import STAGES, PluginStage
from trainkit.hooks.specs import HOOKS
from trainkit.storage.files import read_checkpoint
from trainkit.testing.first_divergence import comparable

How = Literal["SIGTERM", "SIGINT", "SIGUSR1", "kill", "kill after a save", "save and kill", "none"]
HOWS: tuple[How, ...] = ("SIGTERM", "SIGINT", "SIGUSR1", "kill", "kill after a save", "save and kill", "none")
SAVING_HOOKS = (
    *("on_train_batch_end", "on_train_epoch_start", "on_train_epoch_end", "on_train_end"),
    *("on_validation_batch_end", "on_validation_epoch_end", "on_validation_end"),
)
"""The hooks in which a save by hand is exact. Those of a validation's start are called again, and what is drawn in them
changes nothing then, although some of it had not been drawn."""
AGAIN = (
    *("setup", "teardown", "on_exception", "on_load_checkpoint", "on_save_checkpoint", "on_fit_start", "on_fit_end"),
    *("on_train_start", "on_sanity_check_start", "on_sanity_check_end"),
)
"""The hooks that belong to a call of fit and not to the run: each call has its own."""
STARTS = ("on_validation_start", "on_validation_epoch_start")
KILLED = 9
REFUSED = 3
LONGEST_S = 60


@dataclass(frozen=True)
class Place:
    """Where and how a run is stopped.

    Attributes:
        how: By which means.
        hook: In which hook.
        count: At which of its calls, from 1 on.
        stage: The stage of the plugin that stops it: what comes before and after it in that hook.
    """

    how: How
    hook: str
    count: int
    stage: PluginStage


@dataclass
class Outcome:
    """What two runs have in common if they are the same run.

    Attributes:
        error: What ended the run; empty if it came to its end.
        trace: The hooks in the order of their calls, with place, samples and rows.
        begins: At which entry of the trace of the whole run this one begins; 0 for a fresh one.
        in_validation: Whether it begins in the middle of a validation.
        state: A checkpoint of the end.
        ranking: Of each ModelCheckpoint what it knows of its files.
        files: All files of the run, checkpoints with what is in them.
        metrics: The newest values.
    """

    error: str = ""
    trace: list[str] = field(default_factory=list)
    begins: int = 0
    in_validation: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    ranking: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


class Tracer:
    """Writes every call of a hook into a file. What it had written is in each checkpoint."""

    name = "tracer"
    stage: PluginStage = "observe"

    def __init__(self, path: Path, hooks: list[str]) -> None:
        self.written = 0
        self.begins = 0
        self.in_validation = False
        self._file = open(path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115  # for the life of the process
        for hook in hooks:
            setattr(self, hook, self._listener(hook))

    def note(self, entry: str) -> None:
        self.written += 1
        self._file.write(f"{entry}\n")

    def state_dict(self) -> dict[str, int]:
        return {"written": self.written}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.begins = self.written = state["written"]
        # What comes before the first entry of its own is not counted: each call of fit has its own.

    def _listener(self, hook: str) -> Callable[..., None]:
        def listen(trainer: Any, module: Any) -> None:
            if hook == "on_fit_start":
                self.in_validation = trainer.progress.in_validation
            if hook not in AGAIN and not trainer.sanity_checking:
                progress = trainer.progress
                place = f"epoch {progress.epoch} batch {progress.batch} step {progress.global_step}"
                self.note(f"{hook} {place} validation {progress.validation_loader}.{progress.validation_batch}")

        def listen_to_row(trainer: Any, module: Any, metrics: dict[str, float], step: int) -> None:
            self.note(f"row {step} {sorted(metrics.items())}")

        return listen_to_row if hook == "on_log" else listen


class Stopper:
    """Stops the run at a place."""

    name = "stopper"

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder, self.stage, self.calls = place, folder, place.stage, 0
        if place.how == "kill after a save":
            self.around_save_checkpoint = self._around_save
        else:
            setattr(self, place.hook, self._stop)

    def _stop(self, trainer: Any) -> None:
        # What is logged in the sanity check is no part of the run, and in a state that is saved there all the same.
        if trainer.sanity_checking and self.place.how == "save and kill":
            return
        self.calls += 1
        if self.calls != self.place.count:
            return
        if self.place.how == "save and kill":
            trainer.save_checkpoint(os.path.join(trainer.log_dir, "by_hand.ckpt"))
        if "kill" in self.place.how:
            os._exit(KILLED)
        os.kill(os.getpid(), getattr(signal, self.place.how))

    def _around_save(self, path: str) -> Iterator[None]:
        yield
        self.calls += 1
        if self.calls == self.place.count:
            os._exit(KILLED)


class Asking:
    """Asks for the end of training after some updates, which is no interruption: the run is over then."""

    name = "asking"
    stage: PluginStage = "decide"

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: Any) -> None:
        if trainer.global_step == self.steps:
            trainer.should_stop = True


def run(program: Program, folder: Path, name: str, *, hooks: list[str], seed: int, place: Place | None) -> Outcome:
    """Run a program in a process of its own, from what is in ``folder`` or from the beginning."""
    folder.mkdir(parents=True, exist_ok=True)
    trace, result = folder / f"{name}.trace", folder / f"{name}.outcome"
    child = os.fork()
    if child == 0:
        _be_the_run(program, folder, name, hooks, seed, place)
    code = _wait(child)
    outcome = Outcome(error=f"exit code {code}")
    if code not in (0, KILLED, REFUSED):
        outcome.error += f": {(folder / f'{name}.output').read_text(encoding='utf-8').strip().splitlines()[-1:]}"
    if result.exists():
        outcome = Outcome(**torch.load(result, weights_only=False))
    outcome.trace = trace.read_text(encoding="utf-8").splitlines() if trace.exists() else []
    if code == REFUSED:
        raise ConfigError(outcome.error)
    for path in (trace, result):
        path.unlink(missing_ok=True)
    return outcome


def _be_the_run(program: Program, folder: Path, name: str, hooks: list[str], seed: int, place: Place | None) -> None:
    """Be the child: run, write down the outcome, and leave without anything that the parent would do at its end."""
    code = 0
    try:
        output = os.open(folder / f"{name}.output", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome, code = _run_here(program, folder, name, hooks, seed, place)
        torch.save(vars(outcome), folder / f"{name}.outcome")
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run_here(
    program: Program, folder: Path, name: str, hooks: list[str], seed: int, place: Place | None
) -> tuple[Outcome, int]:
    torch.set_num_threads(1)
    trainkit.seed_everything(seed)
    tracer = Tracer(folder / f"{name}.trace", hooks)
    plugins: list[Any] = [tracer]
    if program.stops_at:
        plugins.append(Asking(program.stops_at))
    if place is not None and place.how != "none":
        plugins.append(Stopper(place, folder))
    outcome, code = Outcome(), 0
    try:
        trainer, module, train, val = make(program, folder, plugins)
        Net.note = tracer.note
        trainer.fit(module, train, val, ckpt_path="last")
    except (ConfigError, OptimizerError, PluginError) as error:
        return Outcome(error=f"{error}"), REFUSED
    except BaseException as error:
        traceback.print_exc()
        text = str(error).strip().splitlines()[:1]
        outcome.error = f"{type(error).__name__} {''.join(text)}".strip()
    outcome.begins, outcome.in_validation = tracer.begins, tracer.in_validation
    if not outcome.error:
        outcome.state = _of_equal_runs(trainer.dump_checkpoint())
        outcome.ranking = [_ranking(callback, folder) for callback in trainer.checkpoint_callbacks]
        outcome.files = _files(folder)
        outcome.metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
    return outcome, code


def _wait(child: int) -> int:
    """Return the exit code of a child; one that hangs is ended."""
    deadline = time.monotonic() + LONGEST_S
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)


def _of_equal_runs(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return ``checkpoint`` without what depends on the time, the folder, or the number of calls of fit."""
    kept = comparable(checkpoint)
    states = {key: state for key, state in kept["callbacks"].items() if key != "tracer"}
    return {**kept, "callbacks": states}


def _ranking(callback: Any, folder: Path) -> dict[str, Any]:
    state = callback.state_dict()
    best = {_below(folder, path): score for path, score in state["best_k_models"].items()}
    paths = {key: _below(folder, state[key]) for key in ("best_model_path", "last_model_path", "kth_best_model_path")}
    numbers = {key: state[key] for key in ("best_model_score", "current_score", "kth_value", "saved_step")}
    return {"best": dict(sorted(best.items())), **paths, **numbers}


def _below(folder: Path, path: str) -> str:
    return os.path.relpath(path, folder.resolve()) if path else ""


def _files(folder: Path) -> dict[str, Any]:
    """Return every file of the run by name: of checkpoints the state, of others the text."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        # A kill leaves what it was writing under a temporary name.
        # When it was started, and how often, is another thing than what came of it.
        is_of_start = path.name in ("run.json", "summary.json") or path.suffix == ".patch"
        if path.is_file() and not is_of_start and path.suffix not in (".trace", ".outcome", ".output", ".tmp"):
            name = str(path.relative_to(folder))
            is_state = path.suffix == ".ckpt"
            found[name] = _of_equal_runs(read_checkpoint(path)) if is_state else path.read_text(encoding="utf-8")
    return found


# Comparing


def difference(whole: Outcome, first: Outcome, resumed: Outcome, written_at_stop: set[str]) -> str:
    """Return what differs first between a whole run and one in two parts; nothing if they are equal."""
    if resumed.error:
        return f"the resumed run failed: {resumed.error}"
    second = resumed.trace
    if resumed.in_validation:
        # A validation that goes on calls the hooks of its start again, those included that had come to their end.
        before = list(itertools.takewhile(_is_in_validation, reversed(first.trace[: resumed.begins])))
        again = {entry.split()[0] for entry in before if entry.startswith(STARTS)}
        starts = [n for n, entry in enumerate(second[:4]) if entry.split()[0] in again]
        second = [entry for n, entry in enumerate(second) if n not in starts]
    # A run that has nothing left to do has made all that it wrote down. It may read data again, for batch statistics.
    is_over = all(entry.startswith("samples") for entry in second)
    parts = first.trace if is_over else [*first.trace[: resumed.begins], *second]
    # A kill between the newest state and the end of `on_train_end` is the one that loses a hook: whether the hook was
    # called is not written down, and it is called once at most.
    if is_over and first.error.startswith("exit code"):
        rest = whole.trace[len(parts) :]
        if all(entry.startswith(("on_train_end", "samples")) for entry in rest):
            parts = [*parts, *rest]
    for index, (expected, actual) in enumerate(zip([*whole.trace, "the end"], [*parts, "the end"], strict=False)):
        if expected != actual:
            actual, expected = _first_unequal(actual, expected)
            where = "before the stop" if index < resumed.begins else "after the stop"
            return f"hooks, {where}, entry {index} of {len(whole.trace)}: {actual[:150]!r} for {expected[:150]!r}"
    # The statistics of an average are of data in an order of their own each time that a run which is over is asked for.
    is_redrawn = is_over and any("StochasticWeightAveraging" in key for key in whole.state["callbacks"])
    for what in ("ranking", "metrics") if is_redrawn else ("state", "ranking", "metrics"):
        for found in differences(getattr(resumed, what), getattr(whole, what), what):
            return str(found)
    return _of_files(whole.files, resumed.files, written_at_stop)


def _is_in_validation(entry: str) -> bool:
    # Rows, and what is noted of data, have no hook: those of training ahead of a validation change nothing here.
    is_of_validation = entry.startswith("on_validation_") and not entry.startswith("on_validation_end")
    return is_of_validation or not entry.startswith("on_")


def _first_unequal(one: str, two: str) -> tuple[str, str]:
    """Return two entries, those of rows from a little before they differ."""
    rows = one.startswith("row ") and two.startswith("row ")
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))
    start = max(0, same - 40) if rows else 0
    return one[start:], two[start:]


def _of_files(whole: dict[str, Any], resumed: dict[str, Any], written_at_stop: set[str]) -> str:
    missing, extra = whole.keys() - resumed.keys(), resumed.keys() - whole.keys()
    # One file more is that in which the stop has left the state.
    if missing or len(extra) > 1 or not extra <= written_at_stop:
        return f"files: without {sorted(missing)}, and with {sorted(extra)}"
    for name in whole:
        for found in differences(resumed[name], whole[name], f"file {name}"):
            return str(found)
    return ""


# Drawing


@dataclass(frozen=True)
class Result:
    """What came of one stop: nothing to compare, equal, or what differs."""

    seed: int
    place: Place
    program: Program
    what: str


PLACES_OF_A_PROGRAM = 5


class Sweep:
    """Stops by their seeds. Neighbouring seeds share a program, so that its whole run is made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._wholes: dict[int, tuple[Program, Outcome, list[str]]] = {}

    def stop(self, seed: int) -> Result:
        """Make the stop that belongs to ``seed``."""
        program, whole, hooks = self._whole(seed // PLACES_OF_A_PROGRAM)
        place = draw_place(random.Random(f"place {seed}"), whole)
        folder = self.folder / str(seed)
        if whole.error:
            return Result(seed, place, program, f"the whole run failed: {whole.error}")
        first = run(program, folder, "first", hooks=hooks, seed=1, place=place)
        wrong = _ended_wrongly(place, first)
        if not any(folder.rglob("*.ckpt")):
            return Result(seed, place, program, wrong)  # nothing was saved yet, and a run would begin anew
        before = {str(path.relative_to(folder)) for path in folder.rglob("*.ckpt")}
        resumed = run(program, folder, "resumed", hooks=hooks, seed=2, place=None)
        what = wrong or difference(whole, first, resumed, before)
        return Result(seed, place, program, what)

    def _whole(self, number: int) -> tuple[Program, Outcome, list[str]]:
        """Return a program that is not refused, its whole run, and the hooks that are traced in it."""
        if number not in self._wholes:
            chance = random.Random(f"program {number}")
            for attempt in itertools.count():
                program = draw_program(chance)
                hooks = [hook for hook in HOOKS if not hook.startswith("around_") and not hook.startswith(OTHER_STAGES)]
                if chance.random() < 0.5:
                    # With nobody at the hottest hooks the loops take another way.
                    hooks = [
                        hook for hook in hooks if "batch" not in hook and "grad" not in hook and "ward" not in hook
                    ]
                try:
                    folder = self.folder / f"whole-{number}-{attempt}"
                    whole = run(program, folder, "whole", hooks=hooks, seed=1, place=None)
                except ConfigError:
                    continue
                break
            self._wholes = {number: (program, whole, hooks)}
        return self._wholes[number]


OTHER_STAGES = ("on_test", "on_predict")


def draw_place(chance: random.Random, whole: Outcome) -> Place:
    """Return a place that the whole run has come by."""
    how = chance.choice(HOWS[:-1] * 3 + HOWS[-1:])
    stage = chance.choice(STAGES)
    if how == "kill after a save":
        return Place(how, "around_save_checkpoint", chance.randint(1, 4), stage)
    counts: dict[str, int] = {"on_fit_start": 1, "on_train_start": 1, "on_fit_end": 1, "teardown": 1, "setup": 1}
    for entry in whole.trace:
        hook = entry.partition(" ")[0]
        counts[hook] = counts.get(hook, 0) + 1
    # Where it is not traced: no program has fewer batches.
    counts.setdefault("on_train_batch_end", 3)
    hooks = [hook for hook in counts if hook in HOOKS and (how != "save and kill" or hook in SAVING_HOOKS)]
    hook = chance.choice(sorted(hooks))
    return Place(how, hook, chance.randint(1, counts[hook]), stage)


def _ended_wrongly(place: Place, first: Outcome) -> str:
    """Say if a signal was swallowed, or something else went wrong in the run that was stopped."""
    expected = {
        "SIGTERM": {"SystemExit 143"},
        "SIGINT": {"KeyboardInterrupt"},
        "SIGUSR1": {"SystemExit 138"},
        "none": {""},
    }.get(place.how, {f"exit code {KILLED}", ""})
    return "" if first.error in expected else f"the stopped run ended with {first.error or 'nothing'!r}"
