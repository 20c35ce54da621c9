"""The sections of a configuration, and where each of its values was written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import OmegaConf

from trainkit.config.files import dotted
from trainkit.errors import ConfigError, UnknownNameError
from trainkit.record.command_line import without_secrets

Section = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the values of a configuration were written: in files, or in overrides that came after them.

    Attributes:
        path: The first file, as the user named it.
        overrides: The overrides as they were given, by the key path that each one sets; the last one given comes last.
        files: All files in their order, and the key paths that each has written. Here and in ``overrides`` items of
            lists have their places as names, as in ``callbacks.0.use``.
        unchecked: Keys of which no check can know whether anybody reads them, or what they may be, and why; noted while
            objects are built.
    """

    path: str
    overrides: dict[str, str]
    files: Mapping[str, frozenset[str]] = field(default_factory=dict)
    unchecked: dict[str, str] = field(default_factory=dict, compare=False)

    def where(self, key: str) -> str:
        """Return where ``key`` was written last. For a section, also name the overrides that changed values in it."""
        path = dotted(key)
        # With a dot at the end, so that ``module.lr`` covers ``module.lr.start`` but not ``module.lr_start``.
        for overridden, override in reversed(self.overrides.items()):
            if f"{path}.".startswith(f"{overridden}."):
                return f"override {_shown(override)}"
        within = [
            _shown(override) for overridden, override in self.overrides.items() if overridden.startswith(f"{path}.")
        ]
        return f"{self.file_of(key)}: {key}" + (f", with {' '.join(within)}" if within else "")

    def file_of(self, key: str) -> str:
        """Return the last file that has written ``key``; where none has, the last with what is around it."""
        key = dotted(key)
        while key:
            for path, keys in reversed(list(self.files.items())):
                if key in keys:
                    return path
            key = key.rpartition(".")[0]
        return self.path

    def refuse(self, key: str, problem: str, *, allowed: str = "", write: str = "") -> ConfigError:
        """Return the error for a wrong value at ``key``.

        Args:
            key: The key path.
            problem: A sentence that says what is wrong.
            allowed: What is allowed there.
            write: What to write instead.
        """
        lines = [problem, f"    in           {self.where(key)}"]
        if allowed:
            lines.append(f"    allowed      {allowed}")
        if write:
            lines.append(f"    write        {write}")
        return ConfigError("\n".join(lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A configuration with overrides applied, interpolations resolved, and sections checked.

    Attributes:
        source: Where its values were written.
        seed: The seed of all random generators, set before anything is built; None leaves them.
        module: ``_target_``, the class of the `TrainModule`, and its arguments.
        data: ``_target_``, the class of the `DataModule`, and its arguments; None if the module has its own loaders.
        trainer: Arguments of the `Trainer`, except ``callbacks``.
        callbacks: By any name: ``use``, the name of a plugin (or the key is that name), or ``_target_``, a class, with
            their arguments; None disables one. A list of these has numbers as names.
        ckpt_path: The checkpoint to start from: a path, ``best`` or ``last``.
        shared: Values that others refer to, such as ``${shared.width}``, and YAML anchors; nothing else reads it.
        plugins: Which installed packages may be used: ``enable``, the only ones, and ``disable``, callbacks that are
            left out and packages that may not be. ``timing: true`` measures what plugins, and all else, take.
        unresolved: The sections as they were written, if something in them is asked of a resolver, such as
            ``${oc.env:TOKEN}``; else None.
        unread: Values below ``shared`` to which no interpolation refers.
    """

    source: Source
    seed: int | None = None
    module: Section
    data: Section | None = None
    trainer: Section
    callbacks: dict[str, Section | None]
    ckpt_path: str | None = None
    shared: Section | None = None
    plugins: Section | None = None
    unresolved: Section | None = None
    unread: tuple[str, ...] = ()

    @classmethod
    def from_sections(cls, sections: Mapping[Any, Any], source: Source, unresolved: Section | None = None) -> Config:
        """Check the names and shapes of the sections.

        Args:
            sections: The sections, resolved.
            source: Where they were written.
            unresolved: What they were before, as far as it matters.

        Raises:
            ConfigError: If a section is unknown or missing, or not of the shape it must have.
        """
        allowed = _names(cls)
        for name in sections:
            if name not in allowed:
                raise UnknownNameError("section", str(name), allowed, source.where(str(name)))
        module = _mapping("module", sections.get("module"), source)
        if module is None:
            raise source.refuse("module", "no section 'module' says what to train.", write=written("module", None))
        callbacks = _callbacks(sections.get("callbacks"), source)
        return cls(
            source=source,
            seed=_of_type(int, "seed", sections.get("seed"), source),
            module=module,
            data=_mapping("data", sections.get("data"), source),
            trainer=_mapping("trainer", sections.get("trainer"), source) or {},
            callbacks={name: _mapping(f"callbacks.{name}", callbacks[name], source) for name in callbacks},
            ckpt_path=_of_type(str, "ckpt_path", sections.get("ckpt_path"), source),
            shared=_mapping("shared", sections.get("shared"), source),
            plugins=_plugins(sections.get("plugins"), source),
            unresolved=unresolved,
        )

    def sections(self) -> Section:
        """Return the sections by name."""
        return {name: getattr(self, name) for name in _names(type(self))}

    def to_yaml(self) -> str:
        """Return the text of a file that describes the same run without overrides.

        Interpolations are resolved, unless a resolver is among them: what it answers may be a password, or depend on
        the machine, and other interpolations may lead to it.
        """
        sections = {name: section for name, section in self.sections().items() if section is not None}
        if self.unresolved is None:
            return OmegaConf.to_yaml(_escaped(sections))
        return OmegaConf.to_yaml({name: self.unresolved[name] for name in sections if name in self.unresolved})


def _shown(override: str) -> str:
    """Return an override without a password in it: errors are in logs."""
    (shown,) = without_secrets([override])
    return shown


def _names(config: type[Config]) -> list[str]:
    """Return the names of the sections."""
    return [each.name for each in fields(config) if each.name not in ("source", "unresolved", "unread")]


def written(key: str, value: Any) -> str:
    """Return how the section ``key``, or an entry of ``callbacks``, is written that names a class.

    Args:
        key: The key path.
        value: What was written there: the class alone, or under a key that is not ours.
    """
    if key == "callbacks":
        return "callbacks: {early_stopping: {monitor: val/loss}, ANY_NAME: {_target_: package.file.MyCallback, ...}}"
    section = value if isinstance(value, dict) else {"class": value}
    named = (section[name] for name in _OTHER_WORDS if name in section)
    target = next((each for each in named if isinstance(each, str) and "." in each), "package.file.MyClass")
    arguments = ", ..." if section.keys() - _OTHER_WORDS else ""
    names = key.split(".")
    return "".join(f"{name}: {{" for name in names) + f"_target_: {target}{arguments}" + "}" * len(names)


_OTHER_WORDS = ("class", "class_path", "target", "_target_")
"""What others call ``_target_``."""


def _escaped(value: Any) -> Any:
    """Return a resolved value so that OmegaConf reads the same in it again, and finds nothing to resolve."""
    if isinstance(value, dict):
        return {name: _escaped(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"\\*\?{3}", value):  # a value that is yet to be given
        return f"\\{value}"
    # Backslashes ahead of an interpolation escape each other, and the last one of an odd number the interpolation.
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)


def _mapping(key: str, value: Any, source: Source) -> Section | None:
    """Return ``value`` if it is a mapping with names as keys, or None. Raises otherwise."""
    if value is None:
        return None
    if not isinstance(value, dict):
        write = "" if key == "trainer" else written(key, value)
        raise source.refuse(key, f"{key}={value!r} is not usable.", allowed="a mapping, null", write=write)
    for name in value:
        # YAML also allows numbers as keys; arguments and plugins have names.
        if not isinstance(name, str):
            raise source.refuse(key, f"{key} has the key {name!r}.", allowed="names as keys")
    return value


def _callbacks(value: Any, source: Source) -> Section:
    """Return the callbacks by names. Those of a list have their places as names."""
    if not isinstance(value, list):
        return _mapping("callbacks", value, source) or {}
    found: Section = {}
    for index, item in enumerate(value):
        # A name alone is a plugin without arguments.
        section = {"use": item} if isinstance(item, str) else item
        if not isinstance(section, dict) or not {"use", "_target_"} & section.keys():
            write = "callbacks: [early_stopping, {use: timer, duration: 2h}, {_target_: package.MyCallback}]"
            raise source.refuse(f"callbacks[{index}]", f"callbacks[{index}]={item!r} says no plugin.", write=write)
        found[str(index)] = section
    return found


def _plugins(value: Any, source: Source) -> Section | None:
    """Return ``value`` if it is a mapping of lists of names, and of ``timing``, or None. Raises otherwise."""
    section = _mapping("plugins", value, source)
    for name, names in (section or {}).items():
        key = f"plugins.{name}"
        if name not in ("enable", "disable", "timing"):
            raise UnknownNameError("key of plugins", name, ("enable", "disable", "timing"), source.where(key))
        if name == "timing":
            _of_type(bool, key, names, source)
            continue
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise source.refuse(key, f"{key}={names!r} is not usable.", allowed="a list of names")
    return section


def _of_type(kind: type, key: str, value: Any, source: Source) -> Any:
    """Return ``value`` if it is a ``kind`` or None. Raises otherwise."""
    # By exact type: a bool is an int to Python, and a slip in a configuration.
    if value is not None and type(value) is not kind:
        raise source.refuse(key, f"{key}={value!r} is not usable.", allowed=f"{kind.__name__}, null")
    return value
