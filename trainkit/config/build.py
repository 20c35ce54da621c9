"""Builds the objects that a `Config` describes. No other file makes objects of text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainkit.config.call import call
from trainkit.config.disabled import DEFAULTS, disabled_by_class, disabled_callbacks, switch_off
from trainkit.config.read import FilePath, read
from trainkit.config.saved import SavedConfig
from trainkit.config.schema import Config, Section, written
from trainkit.config.settings import data_settings
from trainkit.config.target import locate
from trainkit.data.module import DataModule
from trainkit.errors import UnknownNameError, nearest_name
from trainkit.hooks.specs import HOOKS
from trainkit.module import TrainModule
from trainkit.plugins import catalog
from trainkit.plugins.consent import with_consent
from trainkit.plugins.installed import tell_of_slips
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
    given: FilePath | Sequence[FilePath] | Mapping[str, Any], overrides: Iterable[str] = ()
) -> tuple[Trainer, TrainModule, DataModule | None]:
    """Build the objects that a configuration describes; see `read` for errors, and `build` for the order.

    Args:
        given: A YAML file; several, of which later ones change what they name; or the sections themselves, as a dict.
        overrides: What to change then, such as ``["trainer.max_epochs=20"]``.

    Returns:
        Trainer, module and data module, as for ``trainer.fit(module, datamodule=datamodule)``. The data module is None
        if the file has none. The ``ckpt_path`` of the file is not returned.
    """
    run = build(read(given, overrides))
    return run.trainer, run.module, run.datamodule


def build(config: Config) -> ConfiguredRun:
    """Seed the random generators, then build callbacks, trainer, module and data, in this order.

    What has a link to something comes behind that: data ahead of a module that asks for its number of classes.

    Raises:
        ConfigError: If an argument is unknown, missing or wrong, or a ``_target_`` is not what its place expects.
    """
    said = config.plugins or {}
    with with_consent(config.source.where("plugins"), said.get("enable"), said.get("disable", ())):
        # First, so that the initial weights are those of the seed.
        if config.seed is not None:
            seed_everything(config.seed)
        tell_of_slips(*config.callbacks, *DEFAULTS)
        return _Builder(config).run()


class _Builder:
    """Builds the objects of one configuration, each section once.

    Args:
        config: The configuration.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._source = config.source
        self._built: dict[str, Any] = {}
        self._building: list[str] = []  # sections, the outermost first

    def run(self) -> ConfiguredRun:
        """Build everything."""
        # The trainer ahead of the module: a wrong argument is found before a large model has been built.
        trainer, module, data = (self._section(name) for name in ("trainer", "module", "data"))
        return ConfiguredRun(trainer, module, data, self._config.ckpt_path)

    def _section(self, name: str) -> Any:
        """Return what a section describes. It is built where it was not yet: a link may have come first."""
        if name not in self._built:
            self._building.append(name)
            make = {"trainer": self._trainer, "module": self._module, "data": self._data}[name]
            self._built[name] = make()
            self._building.pop()
        return self._built[name]

    def _module(self) -> TrainModule:
        module: TrainModule = self._root(self._config.module, "module", TrainModule)
        return module

    def _data(self) -> DataModule | None:
        if self._config.data is None:
            return None
        data: DataModule = self._root(self._config.data, "data", DataModule)
        return data

    def _root(self, section: Section, key: str, base: type) -> Any:
        """Build a section that has to be of a class, or what a function, such as ``from_pretrained``, makes of it."""
        expected = f"a subclass of {base.__name__}"
        made = self._object(section, key, expected, lambda found: _makes(found, base))
        if not isinstance(made, base):
            raise self._source.refuse(
                f"{key}._target_", f"{section['_target_']} has returned a {type(made).__name__}.", allowed=expected
            )
        return made

    def _trainer(self) -> Trainer:
        config, source = self._config, self._source
        if "callbacks" in config.trainer:
            raise source.refuse(
                "trainer.callbacks", "callbacks are a section of their own.", write="callbacks: {NAME: {}}"
            )
        # Callbacks of the file, and some that are there by default.
        disabled = disabled_callbacks(config)
        callbacks = [
            self._plugin(section, f"callbacks.{name}", "callbacks", name)
            for name, section in config.callbacks.items()
            if section is not None and name not in disabled
        ]
        arguments = {name: self._trainer_argument(name, value) for name, value in config.trainer.items()}
        switch_off([name for name in disabled if config.callbacks.get(name) is None], arguments, callbacks, source)
        arguments["callbacks"] = [*callbacks, SavedConfig(config)]
        options = dict(arguments.get("plugins") or {})
        if (config.plugins or {}).get("timing"):
            options = {"timing": True, **options}
        if by_class := disabled_by_class(config):
            options["disable"] = [*options.get("disable", ()), *by_class]
        if options:
            arguments["plugins"] = options
        # Closed: the Trainer's own ``**kwargs`` only serves its message about unknown arguments.
        trainer: Trainer = call(Trainer, arguments, "trainer", source, closed=True)
        trainer.settings |= data_settings(config)
        return trainer

    def _trainer_argument(self, name: str, value: Any) -> Any:
        """Build an argument of the Trainer; plugins of it have names and arguments, as callbacks do."""
        key, kind = f"trainer.{name}", catalog.KIND_OF_ARGUMENT.get(name)
        if kind is not None and isinstance(value, list):
            items = enumerate(value)
            return [
                self._plugin(item, f"{key}[{index}]", kind)
                if _is_plugin(item)
                else self._value(item, f"{key}[{index}]")
                for index, item in items
            ]
        return self._plugin(value, key, kind) if kind is not None and _is_plugin(value) else self._value(value, key)

    def _plugin(self, section: Section, key: str, kind: catalog.Kind, name: str = "") -> Any:
        """Build a plugin from its class (``_target_``), or its name in the catalog: ``use``, else its key."""
        if "_target_" in section:
            expected = "a class with methods named after hooks" if kind == "callbacks" else "something to call"
            return self._object(section, key, expected, _joins_hooks if kind == "callbacks" else callable)
        arguments = dict(section)
        entry = catalog.find(kind, arguments.pop("use", name), where=self._source.where(key))
        plugin = entry.load_maker()
        with entry.named_in_errors():
            return call(plugin, self._arguments(arguments, key), key, self._source)

    def _object(self, section: Section, key: str, expected: str, is_expected: Callable[[Any], bool]) -> Any:
        """Build a mapping with a ``_target_``."""
        arguments = dict(section)
        target, positional = arguments.pop("_target_", None), arguments.pop("_args_", [])
        partial = arguments.pop("_partial_", False)
        if target is None:
            self._refuse_slips(arguments, key)
            raise self._source.refuse(
                key, f"{key} does not say of which class it is.", allowed=expected, write=written(key, section)
            )
        if not isinstance(positional, list):
            raise self._source.refuse(f"{key}._args_", f"{key}._args_={positional!r} is not usable.", allowed="a list")
        if not isinstance(partial, bool):
            raise self._source.refuse(
                f"{key}._partial_", f"{key}._partial_={partial!r} is not usable.", allowed="true, false"
            )
        found = locate(target, f"{key}._target_", self._source, expected, is_expected)
        items = [self._value(item, f"{key}._args_[{index}]") for index, item in enumerate(positional)]
        return call(found, self._arguments(arguments, key), key, self._source, positional=items, partial=partial)

    def _arguments(self, arguments: Section, key: str) -> Section:
        self._refuse_slips(arguments, key)
        return {name: self._value(value, f"{key}.{name}") for name, value in arguments.items()}

    def _value(self, value: Any, key: str) -> Any:
        """Build every object in ``value`` that has a ``_target_``, at any depth, and follow links and references."""
        # Whether the result is of the right type is checked by `call`, by the annotation of its parameter.
        if isinstance(value, list):
            return [self._value(item, f"{key}[{index}]") for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if "_target_" in value:
            return self._object(value, key, "something to call", callable)
        if value.keys() == {"_link_"}:
            return self._linked(value["_link_"], f"{key}._link_")
        if value.keys() == {"_ref_"}:
            return locate(value["_ref_"], f"{key}._ref_", self._source, "anything", lambda found: True)
        return self._arguments(value, key)

    def _linked(self, path: Any, key: str) -> Any:
        """Return an attribute of what a section describes, such as ``data.num_classes``."""
        section, *names = path.split(".") if isinstance(path, str) else [""]
        if section not in ("trainer", "module", "data") or not names:
            allowed = "an attribute of a section, such as data.num_classes"
            raise self._source.refuse(key, f"{key}={path!r} is not usable.", allowed=allowed)
        if section in self._building:
            way = " > ".join([*self._building, section])
            raise self._source.refuse(key, f"{key}={path!r} leads back to where it is: {way}.")
        found = self._section(section)
        if found is None:
            raise self._source.refuse(key, f"{key}={path!r}: there is no section {section!r}.")
        for name in names:
            owner = found
            try:
                found = getattr(owner, name)
            except AttributeError as error:
                known = [each for each in dir(owner) if not each.startswith("_")]
                where = self._source.where(key)
                raise UnknownNameError(f"attribute of {type(owner).__name__}", name, known, where) from error
        return found

    def _refuse_slips(self, section: Section, key: str) -> None:
        """Raise for a key that looks like one of trainkit's, such as ``_traget_``, and is none."""
        for name in section:
            is_near = nearest_name(name, _SPECIAL, cutoff=0.8) if "_" in (name[:1], name[-1:]) else None
            if name not in _SPECIAL and (is_near or (name.startswith("_") and name.endswith("_"))):
                raise UnknownNameError("key", name, _SPECIAL, self._source.where(f"{key}.{name}"))
            if name in ("_link_", "_ref_", "_args_", "_partial_"):
                needs = "stand beside a _target_" if name in ("_args_", "_partial_") else "stand alone in its mapping"
                raise self._source.refuse(f"{key}.{name}", f"{key}.{name} has to {needs}.")


_SPECIAL = ("_target_", "_args_", "_partial_", "_link_", "_ref_", "_replace_")
"""Keys that are no arguments."""


def _is_plugin(value: Any) -> bool:
    return isinstance(value, dict) and "use" in value


def _makes(found: Any, base: type) -> bool:
    """Whether ``found`` is a subclass of ``base``, or a function, which may return an object of one."""
    return issubclass(found, base) if isinstance(found, type) else inspect.isroutine(found)


def _joins_hooks(found: Any) -> bool:
    return isinstance(found, type) and any(hasattr(found, hook) for hook in HOOKS)
