"""Every exception trainkit raises.

::

    TrainkitError
    ├── ConfigError (ValueError)             an argument, a key or a combination that cannot work
    │   └── UnknownNameError                 a name that is not known; carries the nearest spelling
    │       └── UnknownArgumentError (TypeError)  a keyword argument that does not exist
    ├── HookError (TypeError)                a plugin whose hooks cannot be bound
    ├── PluginError (RuntimeError)           a plugin that is not found, does not import, or clashes
    ├── ModuleError (TypeError)              a TrainModule that lacks or misreturns something
    ├── NotAttachedError (RuntimeError)      something that needs a running Trainer was used without one
    ├── DataError (ValueError)               loaders and batches that cannot be used
    ├── OptimizerError (ValueError)          what configure_optimizers returned cannot be used
    ├── MetricError (ValueError)             self.log() misused, or a metric that was never logged
    ├── DeviceError (RuntimeError)           a device, strategy or precision that is not available here
    ├── RankError (RuntimeError)             ranks that do not do the same, or one that has left the others
    ├── OutOfMemoryError (MemoryError)       a single sample needs more memory than there is
    ├── CompileError (RuntimeError)          a training step that cannot be compiled, or was compiled wrongly
    ├── NonFiniteLossError (FloatingPointError)  a loss became NaN or infinite
    ├── LogWriteError (OSError)              a logger could not write; names the path
    ├── FolderInUseError (RuntimeError)      another run writes into the folder of this one
    ├── UnsupportedError                     what another framework has and trainkit has not; says what to use instead
    │   ├── UnsupportedImportError (ImportError)
    │   └── UnsupportedAttributeError (AttributeError)
    └── CheckpointError (RuntimeError)       a checkpoint that cannot be found, trusted or applied
        ├── CheckpointNotFoundError (FileNotFoundError)
        ├── StateError                       a state that is not what its owner saves
        └── CheckpointWriteError (OSError)   a checkpoint that could not be written; names the path

Each is also the builtin exception that it resembles, so that callers may catch either. A message says what is wrong
with the real names and values, where, what is allowed, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from trainkit.printable import printable_lines


class TrainkitError(Exception):
    """The root of all exceptions of trainkit."""

    def __str__(self) -> str:
        # Here and not where it is shown: a message may quote what is in a file, and Python prints tracebacks by itself.
        return printable_lines(super().__str__())


class ConfigError(TrainkitError, ValueError):
    """An argument, a key or a combination of arguments that cannot work."""


class UnknownNameError(ConfigError):
    """A name that is not among the known ones.

    Args:
        kind: What the name stands for, such as ``"strategy"``.
        name: The name as it was given.
        allowed: The names that are known.
        where: Where it was given, such as ``"Trainer(strategy=...)"`` or ``"config.yaml: trainer"``.
    """

    def __init__(self, kind: str, name: str, allowed: Iterable[str], where: str = "") -> None:
        self.kind = kind
        self.name = name
        self.allowed = sorted(allowed)
        self.where = where
        # The labels have one width, here and in other messages, so that what stands behind them is in one column.
        lines = [f"unknown {kind} {name!r}."]
        if where:
            lines.append(f"    in           {where}")
        lines.append(f"    allowed      {_listed(name, self.allowed)}")
        nearest = nearest_name(name, self.allowed)
        if nearest is not None:
            lines.append(f"    did you mean {nearest!r}?")
        super().__init__("\n".join(lines))


class UnknownArgumentError(UnknownNameError, TypeError):
    """A keyword argument that does not exist."""


class HookError(TrainkitError, TypeError):
    """A plugin whose hooks cannot be bound: an unknown hook or argument, or a malformed wrapper."""


class PluginError(TrainkitError, RuntimeError):
    """A plugin that is not found, cannot be imported, or clashes with another one."""


class ModuleError(TrainkitError, TypeError):
    """A `TrainModule` that lacks a method, or returns something the loop cannot use."""


class NotAttachedError(TrainkitError, RuntimeError):
    """Something that needs a running `Trainer` was used without one."""


class DataError(TrainkitError, ValueError):
    """Loaders and batches that cannot be used."""


class OptimizerError(TrainkitError, ValueError):
    """What ``configure_optimizers`` returned cannot be used."""


class MetricError(TrainkitError, ValueError):
    """``self.log()`` was misused, or a metric was asked for that nobody logged."""


class DeviceError(TrainkitError, RuntimeError):
    """A device, strategy or precision that is not available here."""


class RankError(TrainkitError, RuntimeError):
    """Ranks that do not do the same, or one that has left the others: says where each stands."""


class OutOfMemoryError(TrainkitError, MemoryError):
    """A single sample needs more memory than there is."""


class CompileError(TrainkitError, RuntimeError):
    """A training step that cannot be compiled, or that was compiled into something else."""


class NonFiniteLossError(TrainkitError, FloatingPointError):
    """A loss became NaN or infinite."""


class LogWriteError(TrainkitError, OSError):
    """A logger could not write. Names the path."""


class FolderInUseError(TrainkitError, RuntimeError):
    """Another run, which has not ended, writes into a folder.

    Args:
        folder: The folder.
        owner: Who writes into it, such as ``"process 12 on a.host"``; may be empty.
    """

    def __init__(self, folder: str, owner: str) -> None:
        super().__init__(
            f"{folder} is in use: another run writes into it, and the two would overwrite each other's files.\n"
            f"    by           {owner or 'a process that is just starting'}\n"
            "    to do        wait for that run or end it; or write elsewhere: another default_root_dir, dirpath of "
            "ModelCheckpoint, or version of the logger"
        )
        self.folder = folder
        self.owner = owner


class UnsupportedError(TrainkitError):
    """Something that another framework has and trainkit does not have.

    Args:
        name: What was asked for, such as ``"callbacks.Timer"``.
        instead: What to use in its place.
    """

    def __init__(self, name: str, instead: str) -> None:
        super().__init__(f"trainkit has no {name}.\n    instead      {instead}")


class UnsupportedImportError(UnsupportedError, ImportError):
    """A name that a module of the compatibility layer does not have."""


class UnsupportedAttributeError(UnsupportedError, AttributeError):
    """An attribute that an object of the compatibility layer does not have."""


class CheckpointError(TrainkitError, RuntimeError):
    """A checkpoint that cannot be found, trusted or applied."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """No checkpoint where one was asked for."""


class StateError(CheckpointError):
    """A state that is not what its owner saves. Says what is wrong in it; who reads it from a file names that."""


class CheckpointWriteError(CheckpointError, OSError):
    """A checkpoint could not be written. Names the path; older checkpoints are untouched."""


def note_on(error: BaseException, text: str) -> None:
    """Add a note to an exception of whatever kind. Nothing in it acts on a terminal: Python prints it there as it is.

    As in the messages of errors, names that may hold line ends go through `printable` before.
    """
    error.add_note(printable_lines(text))


def _listed(name: str, allowed: list[str]) -> str:
    """Return the allowed names; of very many those that are nearest to ``name``."""
    if len(allowed) <= _MOST_LISTED:
        return ", ".join(allowed) or "(none)"
    nearest = difflib.get_close_matches(name, allowed, n=_NEAREST_LISTED, cutoff=0)
    return f"{', '.join(sorted(nearest))}, and {len(allowed) - len(nearest)} more"


_SIMILAR = 0.6
_MOST_LISTED, _NEAREST_LISTED = 80, 12


def nearest_name(name: str, allowed: Iterable[str], cutoff: float = _SIMILAR) -> str | None:
    """Return the allowed name that is closest to ``name``, whatever its case; None if none comes close.

    By default names that are one slip away come first: short ones are similar to nothing.

    Args:
        name: The name as it was given.
        allowed: The names that are known.
        cutoff: How similar two names have to be, from 0 to 1, as `difflib` measures it.
    """
    lowered = {candidate.lower(): candidate for candidate in allowed}
    slips = [candidate for candidate in lowered if cutoff <= _SIMILAR and _is_one_slip(name.lower(), candidate)]
    near = difflib.get_close_matches(name.lower(), slips, n=1, cutoff=0) if slips else []
    matches = near or difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=cutoff)
    return lowered[matches[0]] if matches else None


def _is_one_slip(given: str, meant: str) -> bool:
    """Whether one character too many, too few or wrong, or two in the wrong order, make ``given`` of ``meant``."""
    if abs(len(given) - len(meant)) > 1 or min(len(given), len(meant)) < 1 or max(len(given), len(meant)) < 2:
        return False
    start = next(
        (i for i, pair in enumerate(zip(given, meant, strict=False)) if pair[0] != pair[1]), min(len(given), len(meant))
    )
    ours, theirs = given[start:], meant[start:]
    if len(ours) != len(theirs):
        return ours[len(ours) > len(theirs) :] == theirs[len(theirs) > len(ours) :]
    return ours[1:] == theirs[1:] or (ours[:2] == theirs[1::-1] and ours[2:] == theirs[2:])
