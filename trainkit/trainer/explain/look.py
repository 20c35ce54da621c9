"""Looks at a fit that is prepared, and says what it is going to do."""

from __future__ import annotations

import inspect
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from trainkit.callbacks.builtin.fit_report import place_of
from trainkit.callbacks.builtin.run_record import RunRecord, record_folder
from trainkit.callbacks.schedule_preview.callback import preview
from trainkit.checkpoint.trial_steps import expected_states
from trainkit.data.batch_sizes import batch_sizes
from trainkit.data.dataloader_copy import index_sampler
from trainkit.data.sampler import ShardedSampler
from trainkit.data.tensors import TensorLoader
from trainkit.hooks.specs import HOOKS
from trainkit.loggers.dummy import DummyLogger
from trainkit.loggers.logger import loggers_of
from trainkit.loops.ahead import Ahead
from trainkit.loops.limits import NO_LIMIT, Limits
from trainkit.module.optimizers import parameters_of
from trainkit.module.shards import own_part
from trainkit.trainer.explain.explanation import Explanation, LoaderFacts, Writer
from trainkit.trainer.explain.which_step import which_step

if TYPE_CHECKING:
    from trainkit.trainer import Trainer
    from trainkit.trainer.call import Call


def look_at(call: Call) -> Explanation:
    """Return what the fit ``call``, which is prepared, is going to do."""
    with warnings.catch_warnings(action="ignore"):  # of schedulers that are stepped for no optimizer
        rates = list(preview(call.trainer, call.module))[1:] if call.fit_run.schedulers else []
    trainer, run, module = call.trainer, call.fit_run, call.module
    # As the loop does when it begins; this run makes no batch.
    run.start_epoch(call.loaders.train.num_batches)
    loaders = list(_loaders(trainer))
    ranks = run.strategy.data_world_size
    ahead = Ahead.of(run, trainer.num_training_batches, batch_sizes(trainer.train_dataloader, ranks))
    step, why = which_step(run, call.registry)
    parameters = list(module.parameters())
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    memory, left_out = _memory(call)
    if step == "manual":
        left_out.append("how many updates there are: training_step makes them")
    return Explanation(
        module=type(module).__name__,
        place=place_of(trainer),
        ranks=ranks,
        loaders=loaders,
        epochs=run.limits.max_epochs - run.progress.epoch,
        batches=_batches_ahead(ahead),
        updates=ahead.updates,
        accumulation=run.accumulation.size,
        validation=_validation(trainer, run.limits),
        start=_start(trainer),
        limits=list(_limits(trainer, run.limits)),
        parameters=(trained, sum(each.numel() for each in parameters) - trained),
        memory=memory,
        sharding=run.strategy.describe(module),
        step=step,
        why=why,
        hooks={name: order for name in HOOKS if (order := call.registry.order(name))},
        optimizers=[line for each in run.optimizers for line in _optimizer(each)],
        schedulers=[_scheduler(each, run.made_with) for each in _schedulers_of(run.made_with)],
        rates=rates,
        writers=list(_writers(trainer)),
        left_out=left_out,
    )


def _loaders(trainer: Trainer) -> Iterator[LoaderFacts]:
    ranks = trainer.strategy.data_world_size
    yield _loader("train", trainer.train_dataloader, trainer.num_training_batches, ranks)
    given = trainer.val_dataloaders
    several = given if isinstance(given, list | tuple) and len(trainer.num_val_batches) == len(given) else [given]
    for index, batches in enumerate(trainer.num_val_batches):
        name = "val" if len(trainer.num_val_batches) == 1 else f"val {index}"
        yield _loader(name, several[index] if index < len(several) else None, batches, ranks)


def _loader(name: str, loader: Any, batches: float, ranks: int) -> LoaderFacts:
    sizes = batch_sizes(loader, ranks)
    known = None if math.isinf(batches) else int(batches)
    samples = None if sizes is None or known is None or math.isinf(sizes.in_epoch) else sizes.of_first(known)
    return LoaderFacts(name, known, sizes.size if sizes else None, samples, _order(loader))


def _order(loader: Any) -> str:
    if isinstance(loader, TensorLoader):
        return _order_of(loader.sampler)
    if not isinstance(loader, DataLoader):
        return type(loader).__name__
    workers = f", {loader.num_workers} workers" if loader.num_workers else ""
    if isinstance(loader.dataset, IterableDataset):
        return f"as {type(loader.dataset).__name__} gives them{workers}"
    return _order_of(index_sampler(loader)) + workers


def _order_of(sampler: Any) -> str:
    if isinstance(sampler, ShardedSampler):
        sampler = sampler.sampler
    named = {RandomSampler: "shuffled", SequentialSampler: "in order"}
    return named.get(type(sampler), f"by {type(sampler).__name__}")


def _batches_ahead(ahead: Ahead) -> int | None:
    """Return how many batches are left; None if nobody knows."""
    if ahead.num_batches is None or math.isinf(ahead.updates):
        return None
    total = 0
    for epoch in ahead.epochs(ahead.updates):
        total += epoch.closed_by(epoch.updates) - epoch.begin
        if epoch.size > 1 and math.isinf(ahead.max_epochs) and total > 10**12:
            return None
    return total


def _validation(trainer: Trainer, limits: Limits) -> str:
    if not limits.validate:
        return ""
    every, epochs, batches = limits.validate_every, limits.validate_every_n_epochs, limits.validate_every_n_batches
    if every is not None:
        when = f"every {every}"
    elif epochs is None:
        when = f"every {batches:g} batches, counted over epochs"
    else:
        of = "each epoch" if epochs == 1 else f"every {epochs}th epoch"
        when = f"at the end of {of}" if batches == NO_LIMIT else f"every {batches:g} batches of {of}"
    tried = sum(trainer.num_sanity_val_batches)
    return when + (f"; {tried:g} batches are tried ahead of training" if tried else "")


def _start(trainer: Trainer) -> str:
    if not trainer.ckpt_path:
        return "the weights that the module has"
    progress = trainer.progress
    within = f", {progress.batch} batches of the next" if progress.batch else ""
    return f"{trainer.ckpt_path}: {progress.epoch} epochs{within}, step {progress.global_step}"


def _limits(trainer: Trainer, limits: Limits) -> Iterator[str]:
    if limits.max_time_s < NO_LIMIT:
        yield f"{limits.max_time_s:g} s of training"
    for stopper in trainer.early_stopping_callbacks:
        yield f"{type(stopper).__name__} on {stopper.monitor}, from epoch {limits.min_epochs} on"


def _memory(call: Call) -> tuple[dict[str, int], list[str]]:
    """Return what weights, gradients and optimizers take, in bytes, and whose share is not known."""
    run, unknown = call.fit_run, []
    tensors = [*call.module.parameters(), *call.module.buffers()]
    trained = {id(each): each for optimizer in run.optimizers for each in parameters_of(optimizer)}
    kept = 0
    for optimizer in run.optimizers:
        try:
            kept += _kept_by(optimizer)
        except Exception:  # an optimizer of others may do anything with a stand-in
            unknown.append(f"what {type(optimizer).__name__} keeps for each parameter")
    memory = {
        # Of this rank, which may have a part of each.
        "weights": sum(own_part(each).nbytes for each in tensors),
        "gradients": sum(own_part(each).nbytes for each in trained.values() if each.requires_grad),
        "optimizer": kept,
    }
    return memory, unknown


def _kept_by(optimizer: Optimizer) -> int:
    total = 0
    for group in optimizer.param_groups:
        for parameter, expected in zip(group["params"], expected_states(optimizer, group, group, ""), strict=True):
            share = own_part(parameter).numel() / max(1, parameter.numel())
            for kept in expected.kept.values():
                for value in kept.value if isinstance(kept.value, list) else [kept.value]:
                    if isinstance(value, Tensor):
                        total += int(math.prod(expected.shape_of(value)) * value.dtype.itemsize * share)
    return total


def _optimizer(optimizer: Optimizer) -> Iterator[str]:
    groups = optimizer.param_groups
    usual = _defaults(type(optimizer))
    told = [
        {name: value for name, value in group.items() if name == "lr" or _is_unusual(name, value, usual)}
        for group in groups
    ]
    shared = {name: value for name, value in told[0].items() if all(name in e and e[name] == value for e in told)}
    count = sum(each.numel() for each in parameters_of(optimizer))
    yield f"{type(optimizer).__name__}({_options(shared)}) of {count:,} parameters"
    for index, (group, options) in enumerate(zip(groups, told, strict=True)):
        own = {name: value for name, value in options.items() if name not in shared}
        if len(groups) > 1:
            count = sum(each.numel() for each in group["params"])
            yield f"    group {index}: {count:,} parameters {_options(own)}".rstrip()


def _is_unusual(name: str, value: Any, usual: Mapping[str, Any]) -> bool:
    # A tensor, compared, is no answer.
    return name in usual.keys() - {"params"} and not isinstance(value, Tensor) and value != usual[name]


def _defaults(kind: type) -> Mapping[str, Any]:
    with suppress(ValueError, TypeError):
        return {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    return {}


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in options.items())


def _short(value: Any) -> str:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _schedulers_of(made_with: Mapping[str, Any]) -> list[str]:
    """Return the places of schedulers in what a run was made with: ``scheduler``, or ``schedulers[0]`` ..."""
    return [name for name in made_with if name.startswith("scheduler") and "." not in name]


def _scheduler(place: str, made_with: Mapping[str, Any]) -> str:
    options = {
        name.removeprefix(f"{place}."): value for name, value in made_with.items() if name.startswith(f"{place}.")
    }
    interval, frequency = options.get("interval", "epoch"), options.get("frequency", 1)
    every = f"every {interval}" if frequency == 1 else f"every {frequency} {interval}s"
    if options.get("every") is not None:
        every = f"every {options['every']}"
    monitor = f", by {options['monitor']}" if options.get("monitor") else ""
    return f"{made_with[place]}, stepped {every}{monitor}"


def _writers(trainer: Trainer) -> Iterator[Writer]:
    for logger in loggers_of(trainer):
        if not isinstance(logger, DummyLogger):
            rows = trainer.arguments.output.log_every
            yield Writer(_relative(logger.log_dir), type(logger).__name__, f"a row every {rows}" if rows else "rows")
    for saver in trainer.checkpoint_callbacks:
        folder = saver.dirpath or os.path.join(trainer.log_dir or trainer.default_root_dir, "checkpoints")
        best = f"the best {saver.save_top_k} by {saver.monitor}" if saver.monitor else f"the newest {saver.save_top_k}"
        what = "all" if saver.save_top_k == -1 else best
        yield Writer(_relative(folder), type(saver).__name__, what)
    keeper = trainer.last_checkpoint
    if keeper is not None:
        folder = trainer.log_dir if trainer.loggers else os.path.join(trainer.default_root_dir, "checkpoints")
        yield Writer(_relative(folder or ""), "newest state", "from which ckpt_path='last' goes on")
    if any(isinstance(plugin, RunRecord) for _, plugin in trainer.hooks.plugins):
        record = record_folder(trainer)
        if record is not None:
            yield Writer(_relative(str(record)), "RunRecord", "run.json, changes.patch, summary.json")


def _relative(path: str) -> str:
    with suppress(OSError, ValueError):  # the working folder may be gone, or on another drive
        relative = os.path.relpath(os.path.realpath(path))
        if "://" not in path and not relative.startswith(os.pardir):
            return relative
    return path
