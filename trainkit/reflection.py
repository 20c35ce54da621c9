"""Finding out about an object of a user's class: which methods it overrides, and with which arguments it was made."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from reprlib import Repr
from types import FrameType
from typing import Any

_SECRET = re.compile(
    r"(.*_)?(passwords?|passwd|passphrase|pwd|secrets?|credentials?|authorization"
    r"|(api|access|secret|private|auth|account|encryption|signing)_?keys?"
    r"|(api|access|auth|bearer|bot|hf|aws|github|gitlab|wandb|refresh|session)_?tokens?)|tokens?"
)
"""The names of arguments that hold a password or the like."""

_TOKEN = re.compile(r".+_token")
_OF_TEXT = re.compile(
    r"(.*_)?(pad|[sebt]os|eo[dticm]|boi|unk|sep|cls|mask|fim|special|num|n|no|max|min|total|mean|count|per|vocab|hidden"
    r"|image|video|audio|text|vision|visual|speech|patch|class|label|task|time|start|begin|middle|end|stop|first|last|next"
    r"|prev|previous|prefix|suffix|new|old|extra|added|additional|context|prompt|query|decoder|encoder|target|source|src"
    r"|tgt|input|output|register|latent|dist|distill|distillation|newline|blank|memory|think|seen|train|val|use|with|is"
    r"|has|add|by)_(.*_)?token"
)
"""Names of tokens of a text or a model. Any other token is taken for one that opens something."""


_CREDENTIALS = re.compile(
    r"(?<=://)[^/?#@\s'\"]*:[^/?#@\s'\"]*@|(?:(?<=http://)|(?<=https://))[^/?#@\s'\"]+@", re.IGNORECASE
)
"""The part ``user:password@`` of a URL, and ``token@`` where it is one of the web."""

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|-")
"""Where a word begins in a name such as ``hfToken`` or ``hf-token``."""


def overrides(owner: object, name: str, base: type) -> bool:
    """Return whether ``owner`` has a method ``name`` other than the one that ``base`` defines.

    A function that is set on the instance counts too. A method that ``base`` does not define at all is an override.
    One that is set to None, on the instance or in its class, is not there.
    """
    kept = getattr(owner, "__dict__", {})
    if name in kept:
        return kept[name] is not None
    # Looked up on the classes, where functions are compared: bound methods are new objects at each access.
    own = getattr(type(owner), name, None)
    return own is not None and own is not getattr(base, name, None)


def method_of(owner: object, name: str, base: type) -> Callable[..., Any]:
    """Return the method ``name`` of ``owner``; that of ``base`` where a user has set it to None."""
    own: Callable[..., Any] | None = getattr(owner, name)
    return partial(getattr(base, name), owner) if own is None else own


def is_ours(frame: FrameType) -> bool:
    """Return whether ``frame`` runs code of trainkit."""
    return str(frame.f_globals.get("__name__")).startswith("trainkit.")


def describe_arguments(owner: object) -> str:
    """Return the arguments with which ``owner`` was made, as text that is the same in another process.

    They are found where the object keeps them as attributes of the same names, a private one before a
    public one. Of large values it is only the beginning and the end. Passwords and the like are left out, those
    within URLs too.
    """
    kept = getattr(owner, "__dict__", {})
    names = inspect.signature(type(owner).__init__).parameters
    found = {name: kept[key] for name in names for key in (name, f"_{name}") if key in kept and not names_secret(name)}
    short = Repr()
    short.maxstring = short.maxother = 1000
    shown = {name: without_credentials(value) for name, value in found.items()}  # first: what is cut is no URL
    text = without_credentials(", ".join(f"{name}={short.repr(value)}" for name, value in shown.items()))
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def names_secret(name: str) -> bool:
    """Return whether an argument of this name holds a password or the like, which is not to be in a file of the run."""
    words = _WORDS.sub("_", name).lower().strip("_").rstrip("0123456789")
    is_token = _TOKEN.fullmatch(words) is not None and _OF_TEXT.fullmatch(words) is None
    return is_token or _SECRET.fullmatch(words) is not None


def without_credentials(value: Any) -> Any:
    """Return ``value`` without what stands as ``user:password@`` or ``token@`` in URLs, if it is text."""
    return _CREDENTIALS.sub("", value) if type(value) is str else value


HIDDEN = "(not shown)"
"""Stands for a password or the like, where values are printed."""


def hide_secrets(value: Any, name: str = "") -> Any:
    """Return ``value`` as it may be printed: what has the name of a password or the like is `HIDDEN`, at any depth.

    Args:
        value: What is to be printed, such as a hyperparameter.
        name: Its name, or its place, which ends with that.
    """
    if names_secret(name.rpartition(".")[2]):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: hide_secrets(item, str(key)) for key, item in value.items()}
    return type(value)(map(hide_secrets, value)) if type(value) in (list, tuple) else without_credentials(value)


def documented_arguments(kind: Any) -> dict[str, str]:
    """Return what the docstring of a class or function says of its arguments, in Google's style, each in one line."""
    lines = (inspect.getdoc(kind) or "").splitlines()
    found: dict[str, str] = {}
    name = ""
    inside = False
    for line in lines:
        if not line.startswith(" "):
            inside = line.strip() in ("Args:", "Arguments:") or (inside and not line.strip())
        elif inside and (match := re.match(r" {4}\*{0,2}(\w+)(?: \([^)]*\))?: (.*)", line)):
            name = match[1]
            found[name] = match[2]
        elif inside and name and line.startswith(" " * 8):
            found[name] += f" {line.strip()}"
    return found
