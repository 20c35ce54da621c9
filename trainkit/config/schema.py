"""The sections of a configuration, and where each of its values was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import OmegaConf

from trainkit.errors import ConfigError, UnknownNameError

Section = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the values of a configuration were written: in a file, or in an override that came after it.

    Attributes:
        path: The file, as the user named it.
        overrides: The overrides as they were given, by the key path that each one sets.
    """

    path: str
    overrides: dict[str, str]

    def where(self, key: str) -> str:
        """Return where ``key`` was written last; of a section also which overrides changed something in it."""
        for overridden, override in reversed(self.overrides.items()):
            if f"{key}.".startswith(f"{overridden}."):
                return f"override {override}"
        within = [override for overridden, override in self.overrides.items() if overridden.startswith(f"{key}.")]
        return f"{self.path}: {key}" + (f", with {' '.join(within)}" if within else "")

    def refuse(self, key: str, problem: str, *, allowed: str = "", write: str = "") -> ConfigError:
        """Return the error for what is wrong at ``key``, with what is allowed there or what to write instead."""
        lines = [problem, f"    in           {self.where(key)}"]
        if allowed:
            lines.append(f"    allowed      {allowed}")
        if write:
            lines.append(f"    write        {write}")
        return ConfigError("\n".join(lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A configuration: overrides applied, interpolations resolved, sections known and of the right shape.

    Attributes:
        source: Where its values were written.
        seed: Seeds all random generators before anything is built; None leaves them.
        module: ``_target_``, the class of the `TrainModule`, and its arguments.
        data: ``_target_``, the class of the `DataModule`, and its arguments; None if the module has its own loaders.
        trainer: Arguments of the `Trainer`, except ``callbacks``.
        callbacks: By any name: ``use``, the name of a plugin (or the key is that name), or ``_target_``, a class, with
            their arguments; None disables one.
        ckpt_path: The checkpoint to start from: a path, ``best`` or ``last``.
    """

    source: Source
    seed: int | None = None
    module: Section
    data: Section | None = None
    trainer: Section
    callbacks: dict[str, Section | None]
    ckpt_path: str | None = None

    @classmethod
    def from_sections(cls, sections: Mapping[Any, Any], source: Source) -> Config:
        """Check the names and shapes of the sections.

        Raises:
            ConfigError: If a section is unknown or missing, or not of the shape it must have.
        """
        allowed = [field.name for field in fields(cls) if field.name != "source"]
        for name in sections:
            if name not in allowed:
                raise UnknownNameError("section", str(name), allowed, source.where(str(name)))
        module = _mapping("module", sections.get("module"), source)
        if module is None:
            raise source.refuse(
                "module", "no section 'module' says what to train.", write="module: {_target_: package.file.MyModule}"
            )
        callbacks = _mapping("callbacks", sections.get("callbacks"), source) or {}
        return cls(
            source=source,
            seed=_of_type(int, "seed", sections.get("seed"), source),
            module=module,
            data=_mapping("data", sections.get("data"), source),
            trainer=_mapping("trainer", sections.get("trainer"), source) or {},
            callbacks={name: _mapping(f"callbacks.{name}", callbacks[name], source) for name in callbacks},
            ckpt_path=_of_type(str, "ckpt_path", sections.get("ckpt_path"), source),
        )

    def to_yaml(self) -> str:
        """Return the text of a file that means the same, with overrides and interpolations worked in."""
        sections = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "source"}
        return OmegaConf.to_yaml({name: section for name, section in sections.items() if section is not None})


def _mapping(key: str, value: Any, source: Source) -> Section | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise source.refuse(key, f"{key}={value!r} is not usable.", allowed="a mapping, null")
    for name in value:
        # To YAML numbers are keys too; arguments and plugins have names.
        if not isinstance(name, str):
            raise source.refuse(key, f"{key} has the key {name!r}.", allowed="names as keys")
    return value


def _of_type(kind: type, key: str, value: Any, source: Source) -> Any:
    # A bool is an int to Python, and a slip in a configuration.
    if value is not None and type(value) is not kind:
        raise source.refuse(key, f"{key}={value!r} is not usable.", allowed=f"{kind.__name__}, null")
    return value
