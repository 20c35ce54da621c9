"""Builds the objects that a `Config` describes. No other file makes objects of text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from trainkit.config.call import call
from trainkit.config.disabled import disabled_callbacks, switch_off
from trainkit.config.read import read
from trainkit.config.saved import SavedConfig
from trainkit.config.schema import Config, Section, Source, written
from trainkit.config.target import locate
from trainkit.data.module import DataModule
from trainkit.hooks.specs import HOOKS
from trainkit.module import TrainModule
from trainkit.plugins import catalog
from trainkit.plugins.consent import with_consent
from trainkit.seed import seed_everything
from trainkit.trainer import Trainer


@dataclass(frozen=True, slots=True)
class ConfiguredRun:
    """The objects that a configuration describes, and the checkpoint to start from."""

    trainer: Trainer
    module: TrainModule
    datamodule: DataModule | None
    ckpt_path: str | None


def from_config(
    path: str | os.PathLike[str], overrides: Iterable[str] = ()
) -> tuple[Trainer, TrainModule, DataModule | None]:
    """Build the objects that a YAML file describes; see `read` for overrides and errors, and `build` for the order.

    Returns:
        Trainer, module and data module, as for ``trainer.fit(module, datamodule=datamodule)``. The data module is None
        if the file has none. The ``ckpt_path`` of the file is not returned.
    """
    run = build(read(path, overrides))
    return run.trainer, run.module, run.datamodule


def build(config: Config) -> ConfiguredRun:
    """Seed the random generators, then build callbacks, trainer, module and data, in this order.

    Raises:
        ConfigError: If an argument is unknown, missing or wrong, or a ``_target_`` is not what its place expects.
    """
    with _consent_of(config):
        return _build(config)


def _consent_of(config: Config) -> AbstractContextManager[None]:
    """Return the context in which only those packages can be named that ``config`` allows."""
    said = config.plugins or {}
    return with_consent(config.source.where("plugins"), said.get("enable"), said.get("disable", ()))


def _build(config: Config) -> ConfiguredRun:
    # First, so that the initial weights are those of the seed.
    if config.seed is not None:
        seed_everything(config.seed)
    # The trainer ahead of the module: a wrong argument is found before a large model has been built.
    trainer = _build_trainer(config)
    module = _build_object(config.module, "module", config.source, *_a_subclass_of(TrainModule))
    data = None
    if config.data is not None:
        data = _build_object(config.data, "data", config.source, *_a_subclass_of(DataModule))
    return ConfiguredRun(trainer, module, data, config.ckpt_path)


def _build_trainer(config: Config) -> Trainer:
    source = config.source
    if "callbacks" in config.trainer:
        raise source.refuse("trainer.callbacks", "callbacks are a section of their own.", write="callbacks: {NAME: {}}")
    # Callbacks of the file, and some that are there by default.
    disabled = disabled_callbacks(config)
    callbacks = [
        _build_callback(name, section, source)
        for name, section in config.callbacks.items()
        if section is not None and name not in disabled
    ]
    arguments = _build_arguments(config.trainer, "trainer", source)
    switch_off([name for name in disabled if config.callbacks.get(name) is None], arguments, callbacks, source)
    arguments["callbacks"] = [*callbacks, SavedConfig(config)]
    # Closed: the Trainer's own ``**kwargs`` only serves its message about unknown arguments.
    trainer: Trainer = call(Trainer, arguments, "trainer", source, closed=True)
    return trainer


def _build_callback(name: str, section: Section, source: Source) -> Any:
    """Build a callback from its class (``_target_``), its name in the catalog (``use``), or a key that is that name."""
    key = f"callbacks.{name}"
    if "_target_" in section:
        return _build_object(section, key, source, "a class with methods named after hooks", _joins_hooks)
    arguments = dict(section)
    plugin = catalog.load("callbacks", arguments.pop("use", name), where=source.where(key))
    return call(plugin, _build_arguments(arguments, key, source), key, source)


def _build_object(section: Section, key: str, source: Source, expected: str, is_expected: Callable[[Any], bool]) -> Any:
    arguments = dict(section)
    target = arguments.pop("_target_", None)
    if target is None:
        raise source.refuse(
            key, f"{key} does not say of which class it is.", allowed=expected, write=written(key, section)
        )
    target = locate(target, f"{key}._target_", source, expected, is_expected)
    return call(target, _build_arguments(arguments, key, source), key, source)


def _build_arguments(arguments: Section, key: str, source: Source) -> Section:
    return {name: _build_value(value, f"{key}.{name}", source) for name, value in arguments.items()}


def _build_value(value: Any, key: str, source: Source) -> Any:
    """Build every object in ``value`` that has a ``_target_``, at any depth."""
    # Whether the result is of the right type is checked by `call`, by the annotation of the parameter that takes it.
    if isinstance(value, list):
        return [_build_value(item, f"{key}[{index}]", source) for index, item in enumerate(value)]
    if isinstance(value, dict) and "_target_" in value:
        return _build_object(value, key, source, "something to call", callable)
    if isinstance(value, dict):
        return _build_arguments(value, key, source)
    return value


def _a_subclass_of(base: type) -> tuple[str, Callable[[Any], bool]]:
    """Return what `locate` has to expect: in words, and as a function that tells whether an object is that."""
    return f"a subclass of {base.__name__}", lambda found: isinstance(found, type) and issubclass(found, base)


def _joins_hooks(found: Any) -> bool:
    return isinstance(found, type) and any(hasattr(found, hook) for hook in HOOKS)
