"""What a configuration leaves out: ``callbacks.NAME: null``, ``plugins.disable``, and the option ``--no-plugin``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from trainkit.config.schema import Config, Section, Source
from trainkit.errors import ConfigError, UnknownNameError
from trainkit.plugins import catalog
from trainkit.plugins.consent import normalized

_FLAGS = {
    "progress_bar": "enable_progress_bar",
    "model_summary": "enable_model_summary",
    "model_checkpoint": "enable_checkpointing",
}
"""The arguments of the Trainer that leave a callback out."""

_LOGGERS = ("tensorboard", "csv")
"""Those of ``Trainer(logger=True)``, in their order."""

DEFAULTS = (*_FLAGS, *_LOGGERS)
"""What a Trainer has by default, and can do without."""


def disabled_callbacks(config: Config) -> list[str]:
    """Return the names of callbacks that are left out: of sections of ``config``, and of what is there by default."""
    disabled = set(map(normalized, _disabled_names(config)))
    found = [name for name, section in config.callbacks.items() if section is None or _is_out(name, section, disabled)]
    return [*found, *(name for name in DEFAULTS if _is_out(name, {}, disabled))]


def disabled_by_class(config: Config) -> list[str]:
    """Return the names in ``plugins.disable`` that are those of classes, by which a Trainer knows its own plugins."""
    offered = {normalized(name) for entry in catalog.entries("callbacks") for name in _names_of(entry)}
    known = offered.union(map(normalized, config.callbacks))
    return [name for name in _disabled_names(config) if normalized(name) not in known and name.isidentifier()]


def _disabled_names(config: Config) -> Collection[str]:
    names: Collection[str] = (config.plugins or {}).get("disable", ())
    return names


def require_known(names: Collection[str], config: Config) -> None:
    """Raise `UnknownNameError` if one of the ``names`` that the user wants to do without leaves nothing out."""
    sections = config.callbacks.items()
    # Imported here: a configuration is read without torch, unless it leaves something out.
    from trainkit.trainer.default_plugins import OWN_NAMES

    entries = [entry for name, section in sections if section for entry in _offered(name, section)]
    entries += [entry for name in DEFAULTS for entry in catalog.offered("callbacks", name)]
    known = {*DEFAULTS, *OWN_NAMES, *config.callbacks}.union(*map(_names_of, entries))
    for name in names:
        if normalized(name) not in map(normalized, known):
            raise UnknownNameError("plugin of this run", name, known, f"--no-plugin {name}")


def _is_out(key: str, section: Section, disabled: set[str]) -> bool:
    """Return whether a section of ``callbacks`` is left out: by its key, its plugin, or the package of that."""
    offered = _offered(key, section)
    # Of several packages that offer the name, others may be left.
    return normalized(key) in disabled or (
        bool(offered) and all(not disabled.isdisjoint(map(normalized, _names_of(entry))) for entry in offered)
    )


def _offered(key: str, section: Section) -> list[catalog.Entry]:
    """Return the entries that a section of ``callbacks`` may mean; none for a class."""
    return [] if "_target_" in section else catalog.offered("callbacks", section.get("use", key))


def _names_of(entry: catalog.Entry) -> set[str]:
    # That of trainkit would leave out all that there is by default.
    package = set() if entry.distribution == "trainkit" else {entry.distribution}
    return {entry.name, entry.qualified_name, entry.class_name, *package}


def switch_off(names: Collection[str], arguments: Section, callbacks: Iterable[Any], source: Source) -> None:
    """Change the ``arguments`` of a Trainer so that it makes none of the plugins of these names by itself.

    Args:
        names: Names of the catalog. One that stands for no default is just not there.
        arguments: The arguments, built.
        callbacks: Those that it is given. One of the same class under another key stays.
        source: Where the configuration was written; goes into errors.

    Raises:
        ConfigError: If a name is unknown, or an argument asks for what is switched off.
    """
    callbacks = list(callbacks)
    for name in names:
        # Also where it stands for no default: misspelt, it would leave on what it is to switch off.
        catalog.find("callbacks", name, source.where(f"callbacks.{name}"))
        flag = _FLAGS.get(name)
        argument = flag or ("gradient_clip_val" if name == "gradient_clipping" else None)
        if argument is not None and arguments.get(argument):
            raise _contradiction(name, argument, arguments[argument], source)
        if flag is not None and not any(isinstance(each, _load(name)) for each in callbacks):
            arguments[flag] = False
    if not arguments.get("barebones"):
        _switch_off_loggers([name for name in _LOGGERS if name in names], arguments, source)


def _switch_off_loggers(names: Collection[str], arguments: Section, source: Source) -> None:
    given = arguments.get("logger")
    if names and (given is None or given is True):
        arguments["logger"] = [_load(name)() for name in _LOGGERS if name not in names] or False
        return
    for name in names:
        for logger in given if isinstance(given, list) else [given]:
            if isinstance(logger, _load(name)):
                raise _contradiction(name, "logger", logger, source)


def _contradiction(name: str, argument: str, value: Any, source: Source) -> ConfigError:
    key = f"callbacks.{name}"
    return source.refuse(key, f"{key}=null contradicts trainer.{argument}={value!r}.", allowed="one of them")


def _load(name: str) -> Any:
    return catalog.load("callbacks", name)
