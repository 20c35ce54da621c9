"""What a run was made with, and what differs in the code from which it goes on."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch

import trainkit
from trainkit.checkpoint import state
from trainkit.checkpoint.arguments import (
    arguments_in,
    below,
    flattened,
    names_of,
    optimizer_arguments,
    scheduler_rows,
    vars_of,
)
from trainkit.checkpoint.changes import Rows, find_changes, is_class, is_in_state, table
from trainkit.checkpoint.origins import ORIGINS
from trainkit.checkpoint.restore_states import restore_optimizers, restore_schedulers
from trainkit.checkpoint.take import ANEW, CodeValues, resolve_names
from trainkit.data.combined import CombinedLoader
from trainkit.data.global_batches import sampler_of
from trainkit.data.loaders import length_of
from trainkit.errors import CheckpointError, ConfigError
from trainkit.loops.run import FitRun
from trainkit.module.hparams import ENUMS, HYPER_PARAMETERS, describe_enums, hparams_prefix, storable
from trainkit.module.optimizers import SchedulerConfig
from trainkit.output import say
from trainkit.reflection import names_secret, without_credentials
from trainkit.storage.owners import restoring
from trainkit.trainer.arguments import OptimizationArguments
from trainkit.trainer.data import DataConnection
from trainkit.trainer.told_elsewhere import without_told_elsewhere

MADE_WITH = "made_with"
"""The key in the ``trainkit`` entry of a checkpoint."""

_NOT_TOLD = ("dirpath", "verbose")
"""Arguments of callbacks that change nothing in what is trained."""

_TO_DO = {
    "optimizer": "starts the code's optimizer and schedulers anew, while weights, counters and data go on",
    "scheduler": "starts the code's schedulers anew, while all else goes on",
}


class Resumption:
    """How a fit goes on: what the checkpoint holds beside what the code gives, and which of the two is used.

    Make it before anything of the checkpoint is restored but weights and counters.

    Args:
        run: What is to go on.
        data: Its data.
        checkpoint: From where.
        path: The file, for errors and the table.
        take: Of what the code's value is taken.
        plugins: Its plugins by their names.

    Raises:
        UnknownNameError: If nothing that could be taken has such a name.
        CheckpointError: If the checkpoint has the state of another class of optimizer or scheduler.
    """

    def __init__(
        self,
        run: FitRun,
        data: DataConnection,
        checkpoint: Mapping[str, Any],
        path: str,
        take: str | Sequence[str],
        plugins: Iterable[tuple[str, object]],
    ) -> None:
        self._run = run
        self._path = path
        self._code = CodeValues(run.optimizers, run.schedulers)
        self._now = run.made_with
        self._taken = resolve_names(take, self._now)
        recorded = checkpoint["trainkit"].get(MADE_WITH)
        with restoring("optimizer_states or lr_schedulers", path):
            self._before: Rows = _from_states(run, checkpoint) if recorded is None else recorded
        if recorded is not None:
            self._refuse_other_classes()
        before, now = (
            rows | hparams
            for rows, hparams in zip((self._before, self._now), _hparams_of_both(run, data, checkpoint), strict=True)
        )
        if recorded is None:  # an older file, or one of another framework: only what both tell
            now = {name: value for name, value in now.items() if name in before}
            before = {name: value for name, value in before.items() if name in now}
        origins = checkpoint["trainkit"].get(ORIGINS, {})
        before, now = without_told_elsewhere(before, now, plugins, checkpoint["callbacks"], origins)
        changes = find_changes(before, now, self._taken)
        if changes and run.strategy.is_global_zero:
            # No warning: Python would leave out the same one in a notebook, where a cell is run again.
            say(f"trainkit: {table(changes, path)}", err=True)

    def restore_optimizers(self, checkpoint: Mapping[str, Any], *, keep_dtypes: bool) -> None:
        """Load the states of optimizers and schedulers, and take what is to be taken from the code.

        Raises:
            CheckpointError: If a state does not fit.
        """
        run, path, taken = self._run, self._path, self._taken
        if "optimizer" not in taken:
            restore_optimizers(run.optimizers, checkpoint["optimizer_states"], path, keep_dtypes=keep_dtypes)
        if "scheduler" not in taken and "optimizer" not in taken:
            schedulers = [config.scheduler for config in run.schedulers]
            restore_schedulers(schedulers, checkpoint["lr_schedulers"], path)
        run.made_with = self._now | {name: self._before[name] for name in self._before if self._is_held(name)}
        if "optimizer" in taken:
            return
        if "scheduler" in taken:
            self._code.start_schedules()
        schedulers = [config.scheduler for config in run.schedulers]
        self._code.take([name for name in taken if "." in name], schedulers, self._before, run.made_with)

    def _is_held(self, name: str) -> bool:
        """Whether the run goes on with what the checkpoint has under ``name``."""
        if not is_in_state(name) or name in self._taken:
            return False
        # What only the checkpoint has goes with its owner, where anything of that is taken.
        owner = name.rpartition(".")[0]
        is_left = not self._taken.isdisjoint(ANEW) or any(each.rpartition(".")[0] == owner for each in self._taken)
        return name in self._now or not is_left

    def _refuse_other_classes(self) -> None:
        for kind in ANEW:
            if kind in self._taken or "optimizer" in self._taken:
                continue
            before, now = (
                {name: rows[name] for name in rows if name.startswith(kind) and is_class(name)}
                for rows in (self._before, self._now)
            )
            if before != now:
                held, given = (", ".join(map(str, rows.values())) or f"no {kind}" for rows in (before, now))
                raise CheckpointError(
                    f"{self._path} holds the state of {held}, and configure_optimizers gave {given}, which cannot go "
                    f"on from it.\n    to do        return {held} again; or fit(..., take=['{kind}']), on the command "
                    f"line --take {kind}, {_TO_DO[kind]}"
                )


def refuse_to_take(take: str | Sequence[str], ckpt_path: object) -> None:
    """Raise `ConfigError` if values are to be taken where nothing goes on."""
    if take and ckpt_path is None:
        raise ConfigError(
            f"take={take!r} says of what a run that goes on uses the code's value, and there is no ckpt_path. A run "
            "that begins uses all of the code's values: leave it out, or give a ckpt_path."
        )


def describe_run(
    run: FitRun, data: DataConnection, arguments: OptimizationArguments, plugins: Iterable[tuple[str, object]]
) -> Rows:
    """Return what the code has given, in values that a checkpoint can hold; before anything of it has changed."""
    plugins = [(name, plugin) for name, plugin in plugins if plugin is not run.module]
    classes = [type(optimizer).__qualname__ for optimizer in run.optimizers]
    # Classes first: where one differs, its arguments are not told.
    rows: Rows = dict(zip(names_of("optimizer", len(classes)), classes, strict=True))
    rows |= _of_optimizers([optimizer.param_groups for optimizer in run.optimizers], run)
    for place, config in zip(names_of("scheduler", len(run.schedulers)), run.schedulers, strict=True):
        rows |= scheduler_rows(place, config)
    rows |= {
        "module": type(run.module).__qualname__,
        **_of_data(data.fit_loaders.train.loader),
        "ranks": run.strategy.world_size,
        "accumulate_grad_batches": arguments.accumulate_grad_batches,
        "gradient_clip_val": arguments.gradient_clip_val,
        "gradient_clip_algorithm": arguments.gradient_clip_algorithm,
        "precision": str(run.precision),
    }
    for name, plugin in plugins:
        if state.has_state(plugin) and not _leaves_training_alone(plugin):
            place = f"callbacks.{name}"
            rows[place] = type(plugin).__qualname__
            arguments_of = arguments_in(type(plugin), vars_of(plugin))
            told = {
                key: without_credentials(value)
                for key, value in arguments_of.items()
                if not (key in _NOT_TOLD or names_secret(key))
            }
            rows |= below(place, told)
    parts = [run.module, *run.optimizers, *(config.scheduler for config in run.schedulers), run.precision, run.strategy]
    versions = {"trainkit": trainkit.__version__, "torch": str(torch.__version__)}
    versions |= _versions([*parts, *(plugin for _, plugin in plugins)])
    return _storable_rows(rows | below("version", versions))


def _storable_rows(rows: Rows) -> Rows:
    """Return the rows that a checkpoint can hold."""
    kept: Rows = {}
    for name, value in rows.items():
        # A mapping of the user's own may be a whole database.
        if not isinstance(value, Mapping) or type(value) is dict:
            with suppress(RecursionError):  # what contains itself
                kept |= storable({name: value})[0]
    return kept


def _of_optimizers(groups: Sequence[Sequence[Mapping[str, Any]]], run: FitRun) -> Rows:
    """Return the arguments of optimizers by the parameter groups of each."""
    rows: Rows = {}
    for place, optimizer, own in zip(names_of("optimizer", len(groups)), run.optimizers, groups, strict=True):
        rows |= below(place, optimizer_arguments(own, _schedulers_of(optimizer, run.schedulers)))
    return rows


def _schedulers_of(optimizer: torch.optim.Optimizer, configs: Iterable[SchedulerConfig]) -> list[Any]:
    own = [config.scheduler for config in configs if vars_of(config.scheduler).get("optimizer") is optimizer]
    return [part for scheduler in own for _, part in flattened("", scheduler)]


def _of_data(loader: Any) -> Rows:
    loaders = loader.flattened if isinstance(loader, CombinedLoader) else [loader]
    # On other ranks than the run began with, a batch is a share of what it was made of then.
    sizes = [
        dealt.batch.size if (dealt := sampler_of(each)) else getattr(each, "batch_size", None) or _size_of(each)
        for each in loaders
    ]
    samples = [length_of(each.dataset) if hasattr(each, "dataset") else None for each in loaders]
    rows: Rows = {"batch_size": sizes[0] if len(sizes) == 1 else sizes}
    if None in samples:
        return rows | {"train_batches": length_of(loader)}
    return rows | {"train_samples": samples[0] if len(samples) == 1 else samples}


def _size_of(loader: Any) -> Any:
    return getattr(getattr(loader, "batch_sampler", None), "batch_size", None)


def _leaves_training_alone(plugin: object) -> bool:
    # What saves; and the core's own plugins, which follow from what is told already.
    own = type(plugin).__module__.startswith("trainkit.callbacks.builtin")
    return own or getattr(plugin, "stage", None) == "persist"


def _versions(parts: Iterable[object]) -> dict[str, str]:
    """Return the versions of the packages from which the parts of a run come, as far as they are cheaply known."""
    packages = {type(part).__module__.partition(".")[0] for part in parts} - {"trainkit", "torch", "__main__"}
    return {name: version for name in sorted(packages) if (version := _version(name)) is not None}


@functools.cache  # metadata is looked for in all folders of sys.path
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = getattr(sys.modules.get(package), "__version__", None)
        return version if isinstance(version, str) else None


def _hparams_of_both(run: FitRun, data: DataConnection, checkpoint: Mapping[str, Any]) -> tuple[Rows, Rows]:
    """Return the hyperparameters of the checkpoint and those of the code."""
    before: Rows = {}
    now: Rows = {}
    for owner, name in ((run.module, "hparams"), (data.datamodule, "data.hparams")):
        key = f"{hparams_prefix(type(owner))}{HYPER_PARAMETERS}"
        if owner is not None and key in checkpoint:
            enums = checkpoint["trainkit"].get(f"{hparams_prefix(type(owner))}{ENUMS}", {})
            before |= dict(_flat(dict(checkpoint[key]) | _named(enums), name))
            now |= dict(_flat(storable(owner.hparams)[0] | _named(describe_enums(owner)), name))
    return before, now


def _named(enums: Mapping[str, Sequence[str]]) -> Rows:
    return {name: ".".join(described) for name, described in enums.items()}


def _flat(values: Any, place: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(values, Mapping) or not values:
        yield place, values
        return
    for key, value in values.items():
        yield from _flat(value, f"{place}.{key}")


def _from_states(run: FitRun, checkpoint: Mapping[str, Any]) -> Rows:
    """Return what the states in a checkpoint without a record tell of the arguments of optimizers and schedulers."""
    rows: Rows = {}
    module = checkpoint["trainkit"].get("module")
    if module is not None:
        rows["module"] = module
    states = checkpoint["optimizer_states"]
    if len(states) == len(run.optimizers):
        groups = [
            # Groups behind those of the code were added by a callback. Without a note, a rate has been moved.
            [_without_moved_rate(group, run) for group in each["param_groups"][: len(optimizer.param_groups)]]
            for each, optimizer in zip(states, run.optimizers, strict=True)
        ]
        rows |= _of_optimizers(groups, run)
    states = checkpoint["lr_schedulers"]
    if len(states) == len(run.schedulers):
        places = names_of("scheduler", len(states))
        for place, config, own in zip(places, run.schedulers, states, strict=True):
            if isinstance(own, Mapping):
                rows |= _of_scheduler_state(place, config.scheduler, own)
    return _storable_rows(rows)


def _without_moved_rate(group: Mapping[str, Any], run: FitRun) -> Mapping[str, Any]:
    if run.schedulers and "initial_lr" not in group:
        return {name: value for name, value in group.items() if name != "lr"}
    return group


def _of_scheduler_state(place: str, scheduler: Any, own: Mapping[str, Any]) -> Rows:
    rows = below(place, arguments_in(type(scheduler), own))
    parts = zip(getattr(scheduler, "_schedulers", ()), own.get("_schedulers", ()), strict=False)
    for index, (part, inner) in enumerate(parts):
        rows |= _of_scheduler_state(f"{place}[{index}]", part, inner)
    return rows
