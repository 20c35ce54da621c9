"""Building a module from a checkpoint: its constructor arguments, then its weights."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from trainkit.checks import file_path
from trainkit.errors import CheckpointError, UnknownNameError
from trainkit.module.hparam_types import Description, read_by_attribute, restore, restore_enum
from trainkit.module.hparams import (
    DATA_SETTINGS,
    ENUMS,
    HPARAMS_NAME,
    HYPER_PARAMETERS,
    LEFT_OUT,
    TRAINER_SETTINGS,
    TYPES,
    hparams_prefix,
)
from trainkit.module.shards import dealt_like, is_sharded
from trainkit.module.weight_kinds import wrong_numbers
from trainkit.module.weight_names import named_as_in, prefix_before, wrappers_around
from trainkit.module.writable import make_writable
from trainkit.output import say, warn
from trainkit.reflection import overrides
from trainkit.storage.sharded.place_holder import SavedTensor

_NAMES_SHOWN = 5


def require_weights(checkpoint: Any, path: object) -> None:
    """Raise `CheckpointError` if there are no weights in ``checkpoint``."""
    if not isinstance(checkpoint, Mapping) or "state_dict" not in checkpoint:
        is_mapping = isinstance(checkpoint, Mapping)
        found = ", ".join(sorted(map(str, checkpoint))) if is_mapping else type(checkpoint).__name__
        to_do = "for a bare state_dict use module.load_state_dict(torch.load(path, weights_only=True))"
        if is_mapping and (prefix := wrappers_around(map(str, checkpoint))):
            # In a program that wraps a module the names of its state_dict are not those of the module.
            to_do = (
                f"for a bare state_dict of a module that was wrapped, whose names begin with {prefix!r}:\n"
                "                 weights = torch.load(path, weights_only=True)\n"
                f"                 weights = {{name.removeprefix({prefix!r}): w for name, w in weights.items()}}\n"
                "                 module.load_state_dict(weights)"
            )
        raise CheckpointError(
            f"{path} is no checkpoint of a run: it has no 'state_dict'.\n"
            f"    found        {found or '(nothing)'}\n"
            f"    to do        {to_do}"
        )


def constructor_arguments(cls: type, checkpoint: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with which to build a ``cls``: the saved hyperparameters, updated by ``overrides``.

    Saved values that the constructor does not take are dropped: a subclass may have fixed what its parent saved.

    Raises:
        CheckpointError: If the constructor needs an argument that is neither saved nor given, or if one was passed when
            the checkpoint was made but could not be stored.
        UnknownNameError: If an override is no argument of the constructor.
    """
    parameters = _parameters(cls)
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    prefix = hparams_prefix(cls)
    kept = checkpoint.get(f"{prefix}{HYPER_PARAMETERS}", {})
    own = {key: checkpoint.get("trainkit", {}).get(f"{prefix}{key}", {}) for key in (LEFT_OUT, TYPES, ENUMS)}
    # Older files and Lightning's do not tell: a Namespace or a configuration was saved as plain dicts, and the
    # constructor may read ``config.optimizer.lr``.
    types: Description = own[TYPES] or {"type": "AttributeDict"} | read_by_attribute(kept)
    enums = {name: restore_enum(cls, name, described) for name, described in dict(own[ENUMS]).items()}
    saved = restore(dict(kept), {"items": types.get("items", {})})
    saved |= {name: member for name, member in enums.items() if member is not None}
    # What was passed but could not be stored has to be passed again, even where the constructor has a default: the
    # default would build another model in silence.
    left_out = {*own[LEFT_OUT], *enums} - saved.keys()

    container = checkpoint.get(f"{prefix}{HPARAMS_NAME}")
    # The class takes its hyperparameters as one object: overrides that are no arguments are entries of that object.
    if container in names:
        inside = {name: value for name, value in overrides.items() if name not in names}
        left_out = set() if container in overrides else left_out - set(inside)
        items = {name: each for name, each in types.get("items", {}).items() if name not in inside}
        saved = {container: restore(dict(kept) | inside, {**types, "items": items})}
        overrides = {name: value for name, value in overrides.items() if name in names}
    elif not takes_any:
        left_out &= set(names)  # a subclass need not be given what only its parent took
        for name in overrides:
            if name not in names:
                raise UnknownNameError("argument", name, names, f"{cls.__name__}.load_from_checkpoint()")

    arguments = {name: value for name, value in (saved | dict(overrides)).items() if takes_any or name in names}
    required = {p.name for p in parameters if p.name in names and p.default is p.empty}
    missing = sorted((required | left_out) - set(arguments))
    if missing:
        example = ", ".join(f"{name}=..." for name in missing)
        raise CheckpointError(
            f"{cls.__name__} cannot be built from the checkpoint alone; it does not hold: {', '.join(missing)}.\n"
            f"    saved        {', '.join(saved) or '(no hyperparameters)'}\n"
            f"    to do        {cls.__name__}.load_from_checkpoint(path, {example})"
        )
    return arguments


def read_hparams(cls: type, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML file of hyperparameters.

    Returns:
        A dict with one entry: the hyperparameters, under the key that they have in a checkpoint of a ``cls``.

    Raises:
        CheckpointError: If there is no such file, or it is no YAML, or more than plain values are in it.
    """
    from trainkit.storage.regular import open_regular
    from trainkit.storage.yaml_text import load_yaml

    file_path(f"{cls.__name__}.load_from_checkpoint", hparams_file=path)
    try:
        # Lightning's files may name Python objects (``!!python/object``), which the safe loader refuses to make.
        with open_regular(path) as file:
            hparams: Any = load_yaml(file.read().decode())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"hparams_file={os.fspath(path)!r} cannot be read: {error}") from error
    if not isinstance(hparams, dict):
        raise CheckpointError(
            f"hparams_file={os.fspath(path)!r} holds a {type(hparams).__name__}, not names with values."
        )
    if wrong := next((name for name in hparams if not isinstance(name, str)), None):
        raise CheckpointError(f"hparams_file={os.fspath(path)!r} has the name {wrong!r}, which is no text.")
    return {f"{hparams_prefix(cls)}{HYPER_PARAMETERS}": _of(cls, hparams)}


def _of(cls: type, hparams: dict[str, Any]) -> dict[str, Any]:
    """Return those of the hyperparameters of a run that are of a ``cls``: settings of the data have names of their own.

    A data module finds its own under plain names in files that other frameworks have written, or a user.
    """
    settings = (DATA_SETTINGS, TRAINER_SETTINGS)
    of_data = {name.removeprefix(settings[0]): hparams[name] for name in hparams if name.startswith(settings[0])}
    if hparams_prefix(cls) and of_data:
        return of_data
    return {name: value for name, value in hparams.items() if not name.startswith(settings)}


def load_weights(
    module: nn.Module, state_dict: Mapping[str, Any], *, strict: bool, source: object, tells: bool = True
) -> None:
    """Load ``state_dict`` into ``module``. Names that differ by wrappers alone, such as ``_orig_mod.``, are recognised.

    Args:
        module: What to load into.
        state_dict: The weights.
        strict: Whether all names must match. Otherwise those that do not are told, with a warning if there are some on
            both sides: it may be one weight under two names.
        source: Where the weights are from, for errors.
        tells: Whether to print what has no match on one side alone, as one rank does.

    Raises:
        CheckpointError: If the weights are those of another model, and always if no name matches. Names ``source``,
            and the tensors that are missing, unexpected, of another shape or of another kind of numbers.
    """
    # One that has its own way of loading may expect the names as they are.
    if not overrides(module, "load_state_dict", nn.Module):
        state_dict = named_as_in(module.state_dict(), state_dict)
        if wrong := next(wrong_numbers(module, state_dict), ""):
            raise CheckpointError(f"the weights in {source} are not those of {type(module).__name__}: {wrong}.")
    make_writable(module)
    own = dict(module.state_dict())
    if any(map(is_sharded, own.values())) or any(isinstance(each, SavedTensor) for each in state_dict.values()):
        # Each rank has read all, and takes its parts; or reads these now.
        state_dict = {name: dealt_like(each, own.get(name)) for name, each in state_dict.items()}
    try:
        loaded = module.load_state_dict(state_dict, strict=strict)
    except RuntimeError as error:
        # torch's message lists every tensor, which for a wrong model are hundreds.
        raise CheckpointError(_difference(module, state_dict, source) or f"{source}: {error}") from error
    # An override may return nothing.
    missing, unexpected = getattr(loaded, "missing_keys", ()), getattr(loaded, "unexpected_keys", ())
    if missing and unexpected and set(missing) >= module.state_dict().keys():
        raise CheckpointError(_difference(module, state_dict, source) or f"{source}: no name matches.")
    if missing and unexpected:
        warn(
            f"the weights in {source} are not all those of {type(module).__name__}; what is missing stays as made.\n"
            + "\n".join(_listed(missing, unexpected))
            + "\n    to do        nothing if this is meant, else rename them in on_load_checkpoint(self, checkpoint)",
        )
    elif tells and missing:
        kind = type(module).__name__
        say(f"trainkit: of {kind} {_named(missing)} not in {source} and stay as they were made", err=True)
    elif tells and unexpected:
        say(f"trainkit: of {source} {_named(unexpected)} not in {type(module).__name__} and left out", err=True)


def call_with(function: Callable[..., Any], **available: Any) -> Any:
    """Call ``function`` with those of the ``available`` arguments that it names; None for any other that it names."""
    return function(**{name: available.get(name) for name in inspect.signature(function).parameters})


def _parameters(cls: type) -> list[inspect.Parameter]:
    init = cls.__init__  # type: ignore[misc]  # only inspected
    # That of nn.Module takes *args and **kwargs only to refuse them, so a class without one of its own takes nothing.
    return [] if init is nn.Module.__init__ else list(inspect.signature(init).parameters.values())[1:]


def _difference(module: nn.Module, state_dict: Mapping[str, Any], source: object) -> str | None:
    """Say in which tensors ``state_dict`` differs from ``module``; None if names and shapes are the same."""
    own = module.state_dict()
    shapes = [
        f"{name} {_shape(state_dict[name])} instead of {_shape(tensor)}"
        for name, tensor in own.items()
        if name in state_dict and _shape(state_dict[name]) != _shape(tensor)
    ]
    missing = [name for name in own if name not in state_dict]
    unexpected = [name for name in state_dict if name not in own]
    if not (shapes or missing or unexpected):
        return None  # then a loading hook of the module's own raised, about something else
    lines = [f"the weights in {source} are not those of {type(module).__name__}."]
    lines += _listed(missing, unexpected, shapes)
    if missing and len(missing) == len(own):
        lines.append(f"    to do        {_way_to_match(own, state_dict)}")
    elif shapes:
        lines.append("    to do        build the module with the arguments it was trained with")
    else:
        lines.append("    to do        strict=False (or module.strict_loading = False) if this is meant")
    return "\n".join(lines)


def _listed(missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[str] = ()) -> list[str]:
    """Return a line for each kind of tensors that do not fit."""
    lines = []
    for label, names in (("missing", missing), ("unexpected", unexpected), ("other shape", shapes)):
        if names:
            rest = f", and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            lines.append(f"    {label:<12} {', '.join(names[:_NAMES_SHOWN])}{rest}")
    return lines


def _named(names: Sequence[str]) -> str:
    """Return how many ``names`` are, and some of them, as the beginning of a sentence."""
    rest = ", ..." if len(names) > _NAMES_SHOWN else ""
    count = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
    return f"{count} ({', '.join(names[:_NAMES_SHOWN])}{rest}) {'is' if len(names) == 1 else 'are'}"


def _way_to_match(own: Iterable[str], weights: Iterable[str]) -> str:
    """Say what to do about names of which none matches; to load what matches would leave the module as it was made."""
    rename = "in on_load_checkpoint(self, checkpoint) of the module"
    if prefix := prefix_before(weights, own):
        return f"remove {prefix!r} from the names in checkpoint['state_dict'], {rename}"
    if prefix := prefix_before(own, weights):
        return f"put {prefix!r} before the names in checkpoint['state_dict'], {rename}"
    return f"no name matches: load it into the module it is of, or rename the weights {rename}"


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None
