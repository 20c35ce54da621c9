"""What is in a checkpoint: one dictionary with the keys below.

`trainkit.trainer.run_state` puts it together and applies it, with the functions here; plugins may add to it in
``on_save_checkpoint``.

======================  ===============================================================================================
``epoch``               completed epochs, which is the index of the running one
``global_step``         optimizer updates so far
``state_dict``          the module's parameters and buffers; an average, where one is kept to be evaluated
``current_model_state`` the newest weights, where ``state_dict`` is an average; see ``averages.py``
``optimizer_states``    one ``state_dict`` per optimizer
``lr_schedulers``       one ``state_dict`` per scheduler
``loops``               ``{"fit": progress}``: the cursor from which the run continues, with ``group_batches``, the
                        batches of an open accumulation group
``callbacks``           the state of each plugin that has one, by its state key; see `keyed`
``hyper_parameters``    what ``save_hyperparameters`` collected, as far as it can be stored safely
``hparams_name``        the constructor argument that takes them all, or ``"kwargs"``
``datamodule_...``      the same two of the data module, if it has hyperparameters
``pytorch-...``         `LIGHTNING_VERSION`: lets Lightning load the weights
``trainkit``            ``format``, ``version``, ``module``, ``run`` (its name), ``mark`` (a random text that only
                        files of the run hold), ``precision``, ``shuffle_seed``,
                        ``flags`` (which parameters are frozen and which submodules in eval mode), and of each of
                        the ``ranks``: ``metrics``, ``group`` (an open accumulation group), ``data`` (position), ``rng``
                        and ``began`` (the states of the generators before the run was first prepared, from which a
                        random split of the data is drawn again); ``hparams_left_out``, names of hyperparameters that
                        could not be stored, ``hparams_types``, of which types they were, and ``hparams_enums``;
                        ``logged``, how much each logger had written; ``made_with``, plain values by names such as
                        ``optimizer.lr``, ``scheduler.T_max`` and ``batch_size``: what the code gave when the run
                        began, or what was taken of it since; ``stop``, who has asked for an end, and the limits;
                        ``due``, the hook that was running, with the plugins that it had yet to call
======================  ===============================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import trainkit
from trainkit.checkpoint.optimizer_states import HOW_TO_COMPUTE, check_state, is_in_torchs_form, is_of_torch
from trainkit.checkpoint.scheduler_states import MOST_STEPS
from trainkit.errors import CheckpointError, StateError
from trainkit.output import warn
from trainkit.reflection import describe_arguments
from trainkit.storage.layout import FORMAT
from trainkit.storage.owners import given_to, restoring, state_of

LIGHTNING_VERSION = "pytorch-lightning_version"
"""The key for which Lightning looks before it loads weights, and by which a checkpoint that it wrote is known."""


def signature(module: nn.Module) -> dict[str, Any]:
    """Return the entries that identify a checkpoint of trainkit: format, version, and the class of the module."""
    return {"format": FORMAT, "version": trainkit.__version__, "module": type(module).__qualname__}


def collect_plugins(plugins: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the state of every plugin that has one, by its key. None and an empty dict are left out.

    Any other state is kept as it is, whatever its type: whether that can be stored is found out where all of it is.
    """
    states = {key: state_of(plugin) for key, _, plugin in keyed(plugins)}
    # By type: not all values say whether they are true, such as a tensor of several numbers.
    return {key: state for key, state in states.items() if state is not None and not _is_empty_dict(state)}


def _is_empty_dict(state: Any) -> bool:
    return isinstance(state, dict) and not state


def restore_plugins(plugins: Iterable[tuple[str, Any]], states: Mapping[str, Any], path: str) -> list[str]:
    """Restore the state of every plugin; return the keys of states that belong to no plugin of this run.

    A plugin without a state in the checkpoint is new in this run, and starts as it was made.

    Args:
        plugins: The plugins by their names.
        states: Their states by their keys.
        path: The file, for errors.

    Raises:
        CheckpointError: If the state of a plugin of trainkit is not as that plugin saves it.
    """
    members = keyed(plugins)
    left = list(states)
    # Those that are as they were first, so that one whose arguments were changed takes what is left of its kind.
    for is_it in (_has_key, _has_arguments, _is_alike):
        for member in list(members):
            key = next((key for key in left if is_it(member, key)), None)
            if key is not None:
                with given_to(member.plugin, f"callbacks.{key}", path):
                    _restore(member.plugin, states[key], key)
                members.remove(member)
                left.remove(key)
    return left


class Keyed(NamedTuple):
    """A plugin that has a state.

    Attributes:
        key: Where its state is in a checkpoint of this run; no other plugin has this key.
        kind: Its ``state_key``, or the name of the plugin. Several may have the same.
        plugin: The plugin.
    """

    key: str
    kind: str
    plugin: Any


def keyed(plugins: Iterable[tuple[str, Any]]) -> list[Keyed]:
    """Return the plugins that have a state. Those of one kind are told apart by all arguments, then by a number."""
    having = [(state_key(name, plugin), plugin) for name, plugin in plugins if has_state(plugin)]
    times = Counter(kind for kind, _ in having)
    found: dict[str, Keyed] = {}
    for kind, plugin in having:
        key = kind if times[kind] == 1 else _with_arguments(kind, plugin)
        numbered = (key if number == 1 else f"{key} {number}" for number in count(1))
        key = next(key for key in numbered if key not in found)
        found[key] = Keyed(key, kind, plugin)
    return list(found.values())


def has_state(plugin: Any) -> bool:
    """Return whether a plugin has a state to be saved."""
    # The TrainModule is a plugin too; its weights are under ``state_dict`` already.
    return getattr(plugin, "state_dict", None) is not None and not isinstance(plugin, nn.Module)


def state_key(name: str, plugin: Any) -> str:
    """Return the plugin's ``state_key``, or its name: the key of its state if there is no other plugin of this kind."""
    return getattr(plugin, "state_key", None) or name


def _with_arguments(kind: str, plugin: Any) -> str:
    return f"{kind} ({describe_arguments(plugin)})"


def _has_key(member: Keyed, key: str) -> bool:
    return key == member.key


def _has_arguments(member: Keyed, key: str) -> bool:
    # It was one of several when it was saved, and is the only one now.
    return key == _with_arguments(member.kind, member.plugin)


def _is_alike(member: Keyed, key: str) -> bool:
    return key == member.kind or key.startswith(f"{member.kind} (")


def _restore(plugin: Any, state: Any, key: str) -> None:
    if getattr(plugin, "load_state_dict", None) is not None:
        plugin.load_state_dict(state)
        return
    warn(
        f"the checkpoint has a state of {key}, which begins anew all the same: {type(plugin).__qualname__} has a "
        "state_dict and no load_state_dict. Define load_state_dict(self, state), which brings back what state_dict "
        "returned."
    )


def restore_optimizers(
    optimizers: list[Any], states: list[Any], path: str, kind: str = "optimizer", *, keep_dtypes: bool = False
) -> None:
    """Load the state of each optimizer or scheduler.

    Args:
        optimizers: The optimizers, or the schedulers, of this run.
        states: Their states in the checkpoint, in the same order.
        path: The file, for the error.
        kind: ``"optimizer"`` or ``"scheduler"``, for the error.
        keep_dtypes: Whether states have the dtypes that they were saved with; otherwise those of the parameters now.

    Raises:
        CheckpointError: If the numbers, the parameter groups or the classes differ.
    """
    to_do = (
        f"    to do        resume with the module it was trained with; or fit(..., take=['{kind}']) starts anew what "
        "does not fit; or load only the weights (module.load_from_checkpoint)"
    )
    if len(optimizers) != len(states):
        raise CheckpointError(
            f"{path} holds {len(states)} states of {kind}s, and configure_optimizers gave {len(optimizers)}.\n{to_do}"
        )
    for index, (optimizer, state) in enumerate(zip(optimizers, states, strict=True)):
        needed, before = _options(optimizer), [{**group} for group in getattr(optimizer, "param_groups", ())]
        place = f"{'optimizer_states' if kind == 'optimizer' else 'lr_schedulers'}[{index}]"
        owned = restoring(place, path) if is_of_torch(optimizer) else given_to(optimizer, place, path)
        with owned:
            check_state(optimizer, state)
            if kind == "scheduler" and (most := max(_counts(state), default=0)) > MOST_STEPS:
                raise StateError(f"it says that it was stepped {most} times, which none was")
            try:
                optimizer.load_state_dict(state)
            except (ValueError, KeyError) as error:
                raise CheckpointError(
                    f"{path}: the state of {type(optimizer).__name__} does not fit: {error} ({place})\n{to_do}"
                ) from error
        lacking = needed - _options(optimizer)
        if lacking:
            raise CheckpointError(
                f"{path} holds the state of another optimizer than {type(optimizer).__name__}: there is no "
                f"{', '.join(sorted(lacking))}.\n{to_do}"
            )
        if kind == "optimizer" and is_of_torch(optimizer) and (name := _filled_in(optimizer, state, before)):
            raise CheckpointError(f"{path}: there is no {name} in {place}.\n{to_do}")
        if isinstance(optimizer, Optimizer) and is_of_torch(optimizer):
            _fit_to_parameters(optimizer)
        # Optimizers of others may save in a form of their own, which they have read themselves.
        if keep_dtypes and is_in_torchs_form(state):
            _put_back_dtypes(optimizer, state)


def _counts(state: Any) -> Iterator[int]:
    """Yield how often the schedulers in a state were stepped, and how often each milestone counts."""
    if isinstance(state, list | tuple):
        for item in state:
            yield from _counts(item)
    for key, value in state.items() if isinstance(state, dict) else ():
        is_count = key in ("last_epoch", "_step_count") or isinstance(state, Counter)
        if is_count and isinstance(value, int):
            yield value
        yield from _counts(value)


def _options(optimizer: Any) -> set[str]:
    """Return the arguments of an optimizer that all of its groups have; none of a scheduler."""
    if not isinstance(optimizer, Optimizer):
        return set()
    return set(optimizer.defaults).intersection(*optimizer.param_groups)


def _filled_in(optimizer: Optimizer, state: Mapping[str, Any], before: list[dict[str, Any]]) -> str:
    """Return an option that the state lacks, and for which torch has put in another value than the code's."""
    for saved, own, now in zip(state["param_groups"], before, optimizer.param_groups, strict=True):
        for name in optimizer.defaults.keys() - saved.keys() - HOW_TO_COMPUTE:
            if now[name] is not own[name] and now[name] != own[name]:
                return str(name)
    return ""


def _put_back_dtypes(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Undo that torch casts all that it loads, but counters of steps, to the dtype of the parameter."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    for parameter, number in zip(parameters, numbers, strict=True):
        loaded = optimizer.state.get(parameter, {})
        for name, saved in state["state"].get(number, {}).items():
            # Such as the float32 scalars of ASGD and NAdam, beside parameters in bfloat16. All else that torch's own
            # optimizers keep is of the parameter's dtype.
            is_own = isinstance(saved, Tensor) and (not saved.ndim or not is_of_torch(optimizer))
            if is_own and name in loaded and saved.dtype != loaded[name].dtype:
                loaded[name] = saved.to(loaded[name].device, copy=True)


def _fit_to_parameters(optimizer: Optimizer) -> None:
    """Cast complex numbers to the dtype of the parameter, as torch does with real ones; and order all in memory alike.

    Fused steps go through memory, and would take other numbers where the order is another, such as channels last.
    """
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            is_list = isinstance(value, list)
            kept[name] = [_fitted(each, parameter) for each in value] if is_list else _fitted(value, parameter)


def _fitted(value: Any, parameter: Tensor) -> Any:
    if not isinstance(value, Tensor) or not value.ndim:
        return value
    value = value.to(parameter.dtype) if value.is_complex() else value
    if value.shape != parameter.shape:
        return value.contiguous()
    is_in_order = value.stride() == parameter.stride()
    return value if is_in_order else torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def is_resumable(checkpoint: Mapping[str, Any]) -> bool:
    """Return whether a fit can continue from ``checkpoint``: it holds more than weights, in trainkit's format."""
    return not _missing(checkpoint)


def require_training_state(checkpoint: Mapping[str, Any], path: str) -> None:
    """Raise `CheckpointError` if a fit cannot continue from ``checkpoint``."""
    missing = _missing(checkpoint)
    if missing:
        raise CheckpointError(
            f"{path} holds weights only (there is no {', '.join(missing)}), so a fit cannot continue from it. To start "
            "a new fit from its weights, use the module's load_from_checkpoint."
        )


def _missing(checkpoint: Mapping[str, Any]) -> list[str]:
    """Return the keys that a fit needs in order to continue, and that ``checkpoint`` lacks."""
    needed = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "trainkit")
    return [key for key in needed if key not in checkpoint]
