"""A run as a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from trainkit.checkpoint import state
from trainkit.checkpoint.absent_plugins import keep_absent, states_of_all
from trainkit.checkpoint.averages import NEWEST, warn_of_idle_averages
from trainkit.checkpoint.origins import ORIGINS
from trainkit.checks import without_numpy
from trainkit.data.resume.other_data import Resume, other_data
from trainkit.data.resume.plausible import check_counters, check_place
from trainkit.errors import CheckpointError, StateError
from trainkit.hooks.due import FINISHED_HOOKS, DueHook
from trainkit.hooks.manager import HookManager
from trainkit.loops.run import FitRun, Run
from trainkit.metrics.torchmetrics import merge_metric_states
from trainkit.module.hparams import store_hparams, warn_of_unstorable
from trainkit.module.modes import Flags
from trainkit.module.saved_parts import read_parts
from trainkit.module.weight_names import named_as_in
from trainkit.output import warn
from trainkit.progress import Progress
from trainkit.seed import move_rng, rng_checksums, rng_state, set_rng_state
from trainkit.storage.layout import check_layout
from trainkit.storage.owners import dict_of, given_to, restoring
from trainkit.storage.sharded.dtensors import without_shards
from trainkit.storage.storable import check_storable, conflicting_views
from trainkit.trainer.data import DataConnection
from trainkit.trainer.kept_batches import GLOBAL_BATCH
from trainkit.trainer.made_with import MADE_WITH, Resumption
from trainkit.trainer.other_ranks import MORE_METRICS, beginning_of_validation, group_of_all, state_for
from trainkit.trainer.rank_buffers import own_buffers, restore_buffers
from trainkit.trainer.rank_gradients import add_shared, group_of_rank, groups_of_ranks, without_shared
from trainkit.trainer.run_length import restore_stop, stop_state
from trainkit.types import Phase

Plugins = Sequence[tuple[str, object]]

SAVED_NAMES = "saved_names"
"""Below ``trainkit`` of a checkpoint that was read: the names of its weights, ahead of hooks that may change them."""


def dump_weights(run: Run, data: DataConnection) -> dict[str, Any]:
    """Return what predicting needs, and no more. Changes nothing."""
    checkpoint: dict[str, Any] = {
        "epoch": run.progress.epoch,
        "global_step": run.progress.global_step,
        "state_dict": run.optimizer_modes.weights(partial(run.strategy.module_state_dict, run.module)),
        # Lightning reads the weights of a file only if it finds a version in it.
        state.LIGHTNING_VERSION: "2.0.0",
        "trainkit": state.signature(run.module),
    }
    store_hparams(run.module, checkpoint)
    if data.datamodule is not None:
        store_hparams(data.datamodule, checkpoint)
    return checkpoint


def dump(run: FitRun, plugins: Plugins, data: DataConnection, *, due: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return everything from which ``run`` can be resumed. Changes nothing.

    Args:
        run: The run.
        plugins: Its plugins.
        data: Its data.
        due: The hook that is running, with the plugins that are yet to be called in it.
    """
    _warn_in_a_step(run, data)
    states, origins = states_of_all(plugins, run.absent_plugins)
    checkpoint = dump_weights(run, data) | _equal_on_all_ranks(run, states)
    # With manual optimization only the module knows whether gradients are still to be used: they are kept always.
    group = run.accumulation.state_dict(run.module, always=not run.module.automatic_optimization)
    # Rank 0 writes for all: each has random numbers, logged values and a place in the data of its own.
    ranks = run.strategy.all_gather_object(_of_this_rank(run, plugins, data, group))
    add_shared(ranks, group, run.strategy)
    checkpoint["trainkit"] |= {
        "precision": run.precision.state_dict(),
        "shuffle_seed": data.shuffle_seed,
        GLOBAL_BATCH: data.batches.state_dict(),
        "flags": asdict(run.flags or Flags.of(run.module)),
        "stop": stop_state(run),
        MADE_WITH: without_numpy(run.made_with),
        ORIGINS: origins,
        "ranks": ranks,
    }
    if run.optimizer_modes:
        # Not so where the weights of training are saved too: then the states are those that belong to them.
        checkpoint["trainkit"]["optimizers_in_eval"] = NEWEST not in checkpoint and run.optimizer_modes.is_eval
    # Also what an earlier checkpoint has left to be called, and this process has not come to yet.
    if due is None and run.unfinished_hook is not None:
        due = {"name": run.unfinished_hook.name, "plugins": run.unfinished_hook.plugins}
    if due is not None:
        checkpoint["trainkit"]["due"] = due
    return checkpoint


def check_storable_state(run: FitRun, plugins: Plugins, data: DataConnection) -> None:
    """Find out when a fit starts, and not at its first save hours later, what a checkpoint could not hold.

    Raises:
        CheckpointError: Names the place and the type of each such value, or two tensors that torch does not save.
    """
    for owner in (run.module, data.datamodule):
        warn_of_unstorable(owner)
    weights = dump_weights(run, data)
    check_layout(weights)
    checkpoint = weights | _equal_on_all_ranks(run, state.collect_plugins(plugins))
    # In a real checkpoint it is within the ranks, at a place that says nothing to the user.
    if data.datamodule is not None:
        checkpoint["datamodule"] = data.datamodule_state()
    checkpoint = without_shards(checkpoint)
    check_storable(checkpoint)
    if why := conflicting_views(checkpoint):
        raise CheckpointError(f"checkpoints of this run cannot be written: {why}.")


def _warn_in_a_step(run: FitRun, data: DataConnection) -> None:
    # The batch was given out and is not counted yet: a hook between forward and `on_train_batch_end` saves.
    progress = run.progress
    if run.metrics.in_training_batches and data.fit_loaders.train.is_under_way(progress.batch):
        warn(
            f"this checkpoint is saved in the middle of a step, that of batch {progress.batch} in epoch "
            f"{progress.epoch}: a run that continues from it is not exact, because it begins that step again, from "
            "random numbers and weights that may have changed in it. Save in on_train_batch_end, or in any hook "
            "outside a step."
        )


def _equal_on_all_ranks(run: FitRun, states: dict[str, Any]) -> dict[str, Any]:
    newest, optimizer_states = run.optimizer_modes.training_state(
        partial(run.strategy.module_state_dict, run.module),
        lambda: run.strategy.stored([dict_of(each) for each in run.optimizers]),
    )
    return {
        # Of an optimizer with modes: ``state_dict`` has what it gives for evaluation.
        **({} if newest is None else {NEWEST: newest}),
        # A learning rate is often one of numpy, as np.logspace gives them.
        "optimizer_states": without_numpy(optimizer_states),
        "lr_schedulers": without_numpy([dict_of(config.scheduler) for config in run.schedulers]),
        # The size of the open group stands with the counters, and its gradients with each rank.
        "loops": {"fit": run.progress.state_dict() | {"group_batches": run.accumulation.batches}},
        "callbacks": run.strategy.stored(states),
    }


def _of_this_rank(run: FitRun, plugins: Plugins, data: DataConnection, group: dict[str, Any] | None) -> dict[str, Any]:
    """Return what each rank has for itself; everything else is equal on all of them."""
    buffers = own_buffers(run.strategy, run.module)
    return {
        **({"buffers": buffers} if buffers else {}),
        "metrics": run.metrics.state_dict(run.module, plugins),
        "group": without_shared(group),
        "data": data.state_dict(run.progress, in_step=run.metrics.in_training_batches),
        "began": data.rng_at_start,
        # A run that continues does not repeat the sanity check.
        "rng": run.rng_outside or rng_state(),
    }


def restore_beginning(data: DataConnection, checkpoint: dict[str, Any] | None, path: str, rank: int) -> None:
    """Prepare a resumed run with the random numbers it began with, so that a random split of its data is the same."""
    ranks = (checkpoint or {}).get("trainkit", {}).get("ranks", ())
    # By rank modulo their number: a run may be continued on more of them. Files of the first formats have none.
    if ranks and (began := ranks[rank % len(ranks)].get("began")):
        with restoring(f"trainkit.ranks[{rank % len(ranks)}].began", path):
            set_rng_state(began)
    data.rng_at_start = rng_state()


def due_hook(checkpoint: dict[str, Any] | None, manager: HookManager) -> DueHook | None:
    """Return the hook within which ``checkpoint`` was saved; None if it was saved outside, or in the last plugin.

    Raises:
        CheckpointError: If it is none of those that a run can finish: a file decides on no other call.
    """
    saved = (checkpoint or {}).get("trainkit", {}).get("due")
    if saved is not None and saved["name"] not in FINISHED_HOOKS:
        raise CheckpointError(f"the checkpoint says that {saved['name']!r} was running, which no run goes on within.")
    return None if saved is None else DueHook(saved["name"], saved["plugins"], manager)


def restore_counters(
    progress: Progress, rank: int, data: DataConnection, checkpoint: dict[str, Any], path: str
) -> None:
    """Set the counters, and what the data module kept: ahead of the loaders, which may be made for the next epoch.

    Raises:
        CheckpointError: If a fit cannot continue from the checkpoint.
    """
    state.require_training_state(checkpoint, path)
    if "ranks" not in checkpoint["trainkit"]:  # an entry of that name of another program
        raise CheckpointError(f"{path} is no checkpoint of trainkit: there is no trainkit.format. Use another one.")
    progress.load_state_dict(checkpoint["loops"]["fit"])
    check_counters(progress, path)
    # What the data module kept may decide which loaders it gives.
    ranks = checkpoint["trainkit"]["ranks"]
    owner: Any = data.datamodule
    if ranks:
        number = rank % len(ranks)
        with given_to(owner, f"trainkit.ranks[{number}].data.datamodule", path):
            data.load_datamodule_state(ranks[number]["data"])
    elif data.datamodule is not None and (kept := checkpoint.get(type(data.datamodule).__qualname__)):
        # Lightning keeps it by the name of the class.
        with given_to(owner, type(owner).__qualname__, path):
            data.load_datamodule_state({"datamodule": kept})


def restore(
    run: FitRun,
    plugins: Plugins,
    data: DataConnection,
    checkpoint: dict[str, Any],
    path: str,
    take: str | Sequence[str] = (),
    resume: Resume = "exact",
) -> None:
    """Put ``run`` where `dump` found it; the weights and the counters are loaded already.

    Args:
        run: What goes on.
        plugins: Its plugins by their names.
        data: Its data.
        checkpoint: From where.
        path: The file, for errors.
        take: Of what the code's value is used where the checkpoint has another.
        resume: How it goes on in the middle of an epoch of other data.

    Raises:
        CheckpointError: If the checkpoint has the state of another module, or of other optimizers, or, with
            ``resume="exact"``, stands in the middle of an epoch of other data.
    """
    own = checkpoint["trainkit"]
    if run.strategy.shards:
        # What is in a sharded checkpoint, and was left there until the place of each tensor was known.
        checkpoint["callbacks"] = read_parts(checkpoint["callbacks"], run.module)
    resumption = Resumption(run, data, checkpoint, path, take, plugins)
    # Plugins before optimizers: one may have added parameter groups, or taken schedulers away, and does so again.
    origins = own.get(ORIGINS, {})
    left = state.restore_plugins(plugins, checkpoint["callbacks"], path, origins)
    warn_of_idle_averages(left, checkpoint["callbacks"], checkpoint["state_dict"])
    run.absent_plugins = keep_absent(left, checkpoint["callbacks"], origins)
    if "flags" in own:  # not so in files of earlier versions, and of other frameworks
        # What was frozen or thawed, or set to eval mode, once in training, goes on as it was. After plugins, which
        # freeze and thaw as they did at the start of the epoch.
        Flags(**own["flags"]).apply(run.module, own.get(SAVED_NAMES))
    if "optimizers_in_eval" in own:
        run.optimizer_modes.expect(is_eval=own["optimizers_in_eval"])
    # With another precision than before, their states follow the parameters.
    resumption.restore_optimizers(checkpoint, keep_dtypes=_same_dtypes(run, checkpoint["state_dict"]))
    with given_to(run.precision, "trainkit.precision", path):
        # That of another one, whose package may be missing now, means nothing to this one.
        saved_by = own.get(MADE_WITH, {}).get("precision", str(run.precision))
        run.precision.load_state_dict(own["precision"] if saved_by == str(run.precision) else {})
    restore_stop(run, own.get("stop", {}), [(state.state_key(name, plugin), plugin) for name, plugin in plugins])
    if own["ranks"]:  # there are none where another framework saved
        group_batches = checkpoint["loops"]["fit"].get("group_batches", 0)
        # Another precision scales losses by something else, or not at all.
        rescale = run.precision.state_dict().get("scale", 1.0) / own["precision"].get("scale", 1.0)
        _restore_rank(run, plugins, data, own["ranks"], group_batches, rescale, path, resume)


def _same_dtypes(run: FitRun, weights: dict[str, Any]) -> bool:
    """Whether all parameters have the dtypes in which they were saved."""
    saved = named_as_in(run.module.state_dict(), weights)
    return all(saved[name].dtype == each.dtype for name, each in run.module.named_parameters() if name in saved)


def _restore_rank(
    run: FitRun,
    plugins: Plugins,
    data: DataConnection,
    ranks: list[dict[str, Any]],
    group_batches: int,
    rescale: float,
    path: str,
    resume: Resume,
) -> None:
    progress, strategy = run.progress, run.strategy
    # Between epochs nothing of a rank has to fit; within one, its place in the data does.
    mid_epoch = progress.batch > 0 and not progress.epoch_ended
    due = "" if run.unfinished_hook is None else run.unfinished_hook.name
    # Of ranks that compute one batch together, one speaks for all.
    firsts = data.batches.saved_first_ranks
    others = len(firsts) != strategy.data_world_size
    if others and mid_epoch and resume != "next_epoch":
        data.batches.require(path)
    _check_batches_left(progress, data, path, resume, mid_epoch=mid_epoch)
    is_same = len(ranks) == strategy.world_size and firsts == strategy.one_of_each_data(range(strategy.world_size))
    number = strategy.rank if is_same else firsts[strategy.data_rank % len(firsts)]
    mine, place = ranks[number], f"trainkit.ranks[{number}]"
    if others:
        with restoring(f"{place}, of {len(ranks)} ranks to go on with {strategy.world_size},", path):
            mine = state_for([ranks[each] for each in firsts], strategy.data_rank, strategy.data_world_size)
    check_place(progress, mine["data"], path, in_training=mid_epoch and not progress.is_last)
    # Of a phase in whose last hooks it was saved, nothing is to come, unless plugins are.
    trains = progress.in_epoch or due == "on_train_epoch_end"
    validates = progress.in_validation or progress.validation_ending or due == "on_validation_end"
    random_numbers = mine["rng"]
    if others and progress.has_validated:
        # Other ranks have other parts of its samples: it begins anew.
        progress.validation_loader = progress.validation_batch = 0
        random_numbers, validates = beginning_of_validation(mine, random_numbers), False
    under_way = [Phase.TRAIN] * trains + [Phase.VALIDATE] * validates
    with restoring(f"{place}.metrics", path):
        run.metrics.load_state_dict(mine["metrics"], run.module, under_way, plugins)
        for states in mine["metrics"].get(MORE_METRICS, ()):
            merge_metric_states(run.module, states, plugins)
    with restoring(f"{place}.group", path):
        if group_batches and not (run.optimizers and run.module.automatic_optimization):
            raise StateError(f"{group_batches} batches wait for an update, which here nobody makes but the module")
        ranks = read_parts(ranks, run.module) if strategy.shards else ranks
        groups = groups_of_ranks(ranks)
        group = (
            group_of_all([groups[each] for each in firsts], strategy.data_world_size)
            if others
            else group_of_rank(groups, number, run.module)
        )
        run.accumulation.load_state_dict(group, group_batches, run.module, rescale)
    with restoring(f"{place}.buffers", path):
        restore_buffers(run.module, mine.get("buffers", {}))
    if group_batches:
        strategy.resume_group()
    in_loader = progress.validation_loader if progress.has_validated else None
    if not progress.in_epoch:
        data.fit_loaders.resume_between_epochs()
    with given_to(data.fit_loaders.train.loader, f"{place}.data", path):
        data.load_state_dict(mine["data"], mid_epoch=mid_epoch, validation_loader=in_loader, resume=resume)
    # Last, since everything above may have drawn.
    with restoring(f"{place}.rng", path):
        set_rng_state(random_numbers)
    if strategy.data_rank >= len(firsts):
        # It has begun with the random numbers of another rank, which goes on with them.
        move_rng(rng_checksums(), strategy.data_rank)


def _check_batches_left(
    progress: Progress, data: DataConnection, path: str, resume: Resume, *, mid_epoch: bool
) -> None:
    """Refuse the place of an epoch that is shorter now, and warn of a rest that is left out."""
    num_batches = data.fit_loaders.train.num_batches
    is_past_end = data.fit_loaders.train.is_past_end(progress.batch)
    if mid_epoch and not progress.is_last and is_past_end and resume == "exact":
        raise other_data(
            f"{path} was saved behind {progress.batch} batches of epoch {progress.epoch}, and an epoch ends after "
            f"{num_batches} now: by limit_train_batches, a larger batch size, or fewer data."
        )
    if mid_epoch and not progress.is_last and resume == "next_epoch":
        rest = "all" if num_batches is None else max(num_batches - progress.batch, 0)
        warn(
            f'resume="next_epoch" leaves out the rest of epoch {progress.epoch}: {rest} batches after the first '
            f"{progress.batch}."
        )
