"""Hyperparameters: the constructor arguments from which an object can be built anew."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping
from types import FrameType, MappingProxyType
from typing import Any

from trainkit.errors import ConfigError, UnknownNameError
from trainkit.module.attribute_dict import AttributeDict
from trainkit.module.hparam_types import (
    Description,
    NotStorableError,
    as_plain,
    describe,
    describe_enum,
    describe_outside,
)
from trainkit.output import warn
from trainkit.storage.plain import excess
from trainkit.storage.storable import find_unstorable

# Keys in a checkpoint, before which a data module puts "datamodule_". The first two are Lightning's, at the top level;
# the others are trainkit's own, and are kept under "trainkit".
HYPER_PARAMETERS = "hyper_parameters"
HPARAMS_NAME = "hparams_name"
LEFT_OUT = "hparams_left_out"
TYPES = "hparams_types"
ENUMS = "hparams_enums"

DATA_SETTINGS = "data/"
"""How the names of settings of the data begin, where those of the module are too. No argument has a slash."""

TRAINER_SETTINGS = "trainer/"
"""The same for the Trainer's."""


class HyperparametersMixin:
    """Gives a class ``save_hyperparameters`` and ``hparams``."""

    # Defaults of the class: no `__init__` sets them, since one may save hyperparameters before it calls super().
    _hparams: AttributeDict | None = None
    _hparams_initial: AttributeDict | None = None
    _hparams_name: str | None = None
    _hparams_described: Mapping[str, Any] = MappingProxyType({})  # the object that the argument of that name takes
    _hparams_logged: bool = True
    _hparams_prefix: str = ""

    @property
    def hparams(self) -> AttributeDict:
        """The hyperparameters that `save_hyperparameters` collected. May be changed; saved in checkpoints."""
        if self._hparams is None:
            self._hparams = AttributeDict()
        return self._hparams

    @property
    def hparams_initial(self) -> AttributeDict:
        """A copy of ``hparams`` as they were when `save_hyperparameters` ran last."""
        return AttributeDict() if self._hparams_initial is None else AttributeDict(self._hparams_initial)

    def save_hyperparameters(
        self,
        *args: Any,
        ignore: str | Iterable[str] | None = None,
        frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:
        """Keep constructor arguments in ``hparams``. Call it in ``__init__``, of the class itself or of a parent.

        Args:
            args: Names of the arguments to keep, or one or more mappings, Namespaces, dataclasses or OmegaConf
                containers to keep instead. Without any, all arguments of ``__init__`` are kept.
            ignore: Names to leave out.
            frame: The frame of the ``__init__``, if it does not call this function itself.
            logger: Whether loggers write them.

        Raises:
            UnknownNameError: If a name is no argument of ``__init__``.
            ConfigError: If an argument is neither a name nor holds named values.
        """
        arguments = _init_arguments(self, frame or sys._getframe(1))
        ignored = {ignore} if isinstance(ignore, str) else set(ignore or ())
        containers = [arg for arg in args if not isinstance(arg, str)]
        kept: dict[str, Any] = {} if args else arguments
        for name in args:
            if isinstance(name, str):
                if name not in arguments:
                    raise UnknownNameError("hyperparameter", name, arguments, f"{type(self).__name__}.__init__")
                kept[name] = arguments[name]
        for container in containers:
            kept.update(_named_values(container))

        if len(args) == len(containers) == 1:
            # The class takes its hyperparameters as one object: rebuilding must pass them the same way.
            self._hparams_name = next((name for name, value in arguments.items() if value is containers[0]), None)
            # A dataclass is kept by its fields, which are read by attribute.
            is_dict = type(containers[0]) is dict
            self._hparams_described = {} if is_dict else describe_outside(containers[0]) or {"type": "AttributeDict"}
        self._hparams_logged = logger
        self.hparams.update(kept)
        # Removed and not merely left out: a parent's ``__init__`` may have saved them before.
        for name in ignored:
            self.hparams.pop(name, None)
        self._hparams_initial = AttributeDict({name: _snapshot(value) for name, value in self.hparams.items()})


def storable(hparams: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Split hyperparameters into those that a checkpoint can hold and the names of those that it cannot.

    A value is converted where it can be made again, see `hparam_types`, or a constructor can use the result in its
    place: a Namespace, another mapping or an OmegaConf container becomes a dict (or list), a frozenset a set, a Path a
    str, a numpy scalar a number. Modules, functions, classes and all other objects are left out. So is a container that
    holds one, since half of it would be another argument.

    Returns:
        The values that ``torch.load(weights_only=True)`` gives back, and the names that were left out.
    """
    kept: dict[str, Any] = {}
    left_out: list[str] = []
    for name, value in hparams.items():
        try:
            if excess(value, 0):  # which would be gone through place by place
                raise NotStorableError
            plain = as_plain(value)
            if find_unstorable(plain):  # such as a number of thousands of bits, or empty bytes
                raise NotStorableError
            kept[str(name)] = plain
        except NotStorableError:
            left_out.append(str(name))
    return kept, left_out


def hparams_prefix(cls: type) -> str:
    """Return the prefix of the keys under which a checkpoint holds the hyperparameters of a ``cls``."""
    prefix: str = getattr(cls, "_hparams_prefix", "")
    return prefix


def store_hparams(owner: HyperparametersMixin, checkpoint: dict[str, Any]) -> list[str]:
    """Put the hyperparameters of ``owner`` into ``checkpoint``; return the names of those that cannot be stored."""
    kept, left_out = storable(owner.hparams)
    enums = describe_enums(owner)
    left_out = [name for name in left_out if name not in enums]
    # Without any, no key: `load_from_checkpoint` then builds the class from its defaults.
    if owner.hparams:
        prefix = owner._hparams_prefix
        checkpoint[f"{prefix}{HYPER_PARAMETERS}"] = kept
        checkpoint[f"{prefix}{HPARAMS_NAME}"] = owner._hparams_name or "kwargs"  # Lightning's word for "by name"
        types = {**owner._hparams_described, "items": describe_types(owner.hparams, kept)}
        own = {LEFT_OUT: left_out, TYPES: types, ENUMS: enums}
        checkpoint.setdefault("trainkit", {}).update({f"{prefix}{key}": value for key, value in own.items()})
    return left_out


def describe_types(hparams: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Description]:
    """Return of which types the hyperparameters that are ``kept`` were, by their names."""
    described = ((str(name), describe(value, kept[str(name)])) for name, value in hparams.items() if str(name) in kept)
    return {name: each for name, each in described if each}


def describe_enums(owner: HyperparametersMixin) -> dict[str, list[str]]:
    """Return the hyperparameters of ``owner`` that are enums which its constructor names, by their names."""
    described = ((str(name), describe_enum(type(owner), name, value)) for name, value in owner.hparams.items())
    return {name: each for name, each in described if each is not None}


def warn_of_unstorable(owner: HyperparametersMixin | None) -> None:
    """Warn of the hyperparameters of ``owner`` that a checkpoint cannot hold, naming them all."""
    left_out = [] if owner is None else storable(owner.hparams)[1]
    if owner is not None and left_out:
        left_out = [name for name in left_out if name not in describe_enums(owner)]
        # What `_partial_` of a configuration makes, and a configuration makes anew: no hyperparameter by which runs
        # differ, but code. Who loads without one is told then what is missing.
        left_out = [name for name in left_out if not isinstance(owner.hparams.get(name), functools.partial)]
    if left_out:
        name = type(owner).__name__
        example = ", ".join(f"{each}=..." for each in left_out)
        warn(
            f"checkpoints cannot hold these hyperparameters of {name}, because loading them would run code: "
            f"{', '.join(left_out)}. {name}.load_from_checkpoint(path, {example}) will need them again. "
            f"To be silent, leave them out: save_hyperparameters(ignore={left_out})."
        )


def loggable_hparams(owner: HyperparametersMixin) -> AttributeDict:
    """Return ``hparams_initial`` for the loggers, or nothing if ``save_hyperparameters(logger=False)`` said so."""
    return owner.hparams_initial if owner._hparams_logged else AttributeDict()


def _init_arguments(owner: object, frame: FrameType | None) -> dict[str, Any]:
    """Return the arguments of every ``__init__`` of ``owner`` that is running; those of subclasses win.

    Args:
        owner: The object that is being built.
        frame: Where to begin on the stack; its callers follow.
    """
    arguments: dict[str, Any] = {}
    while frame is not None:
        # Known by its first argument, whatever it is called: between two of them there may be frames of decorators,
        # and of other objects that are built on the way.
        code = frame.f_code
        if code.co_name == "__init__" and code.co_argcount and frame.f_locals.get(code.co_varnames[0]) is owner:
            names, _, keywords, values = inspect.getargvalues(frame)
            # A parent's frame is met before its subclass's, so what the user passed overwrites what was passed on.
            # An argument that ``__init__`` has deleted has no value any more.
            arguments.update({name: values[name] for name in names[1:] if name in values})
            arguments.update(values.get(keywords, {}) if keywords else {})
        frame = frame.f_back
    return arguments


def _named_values(container: Any) -> dict[str, Any]:
    """Return the values of a container of hyperparameters by name."""
    if isinstance(container, Namespace):
        return dict(vars(container))
    if dataclasses.is_dataclass(container) and not isinstance(container, type):
        return {field.name: getattr(container, field.name) for field in dataclasses.fields(container)}
    # A DictConfig is a Mapping; reading its items one by one resolves interpolations.
    if isinstance(container, Mapping):
        return {str(key): container[key] for key in container}
    raise ConfigError(
        f"save_hyperparameters() got a {type(container).__name__} ({container!r}); "
        "pass names of __init__ arguments, or a dict, Namespace, dataclass or OmegaConf mapping."
    )


def _snapshot(value: Any) -> Any:
    """Return a copy of ``value`` if a checkpoint can hold it, else ``value`` itself."""
    # What cannot be stored may be a whole network, which would exist twice.
    try:
        as_plain(value)
    except NotStorableError:
        return value
    try:
        return copy.deepcopy(value)
    except TypeError:  # such as of a mapping that is a view of another
        return value
