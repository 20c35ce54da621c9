"""Which installed packages a run may use parts of: what the environment and a configuration say. trainkit's own always.

Nothing that is installed runs a line before it is named. Here somebody else than who names it has a say: an
administrator for all runs of a machine, or the author of a configuration for those of that file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

VARIABLE = "TRAINKIT_PLUGINS"
"""The environment variable: names of packages that may be used, separated by commas; ``-NAME`` forbids one. Set and
empty, it forbids all."""


@dataclass(frozen=True, slots=True)
class Consent:
    """What may be used.

    Attributes:
        said_by: Who says so, for errors.
        enabled: The only packages (``package``) and parts (``package:name``) that may be; None for all.
        disabled: Packages and parts that may not.
    """

    said_by: str
    enabled: frozenset[str] | None = None
    disabled: frozenset[str] = frozenset()

    def allows(self, distribution: str, name: str) -> bool:
        """Return whether the part ``name`` of the package ``distribution`` may be used."""
        names = {normalized(distribution), normalized(f"{distribution}:{name}")}
        return (self.enabled is None or not names.isdisjoint(self.enabled)) and names.isdisjoint(self.disabled)


_OF_RUN: ContextVar[Consent | None] = ContextVar("consent", default=None)
"""What the configuration says that is being built."""


def who_forbids(distribution: str, name: str) -> str | None:
    """Return who forbids to use the part ``name`` of an installed package; None if nobody does."""
    if distribution == "trainkit":
        return None
    consents = (_of_environment(), _OF_RUN.get())
    return next((each.said_by for each in consents if each is not None and not each.allows(distribution, name)), None)


@contextmanager
def with_consent(said_by: str, enabled: Iterable[str] | None, disabled: Iterable[str]) -> Iterator[None]:
    """Let a configuration say which packages may be used, within the context.

    Args:
        said_by: Its name, for errors.
        enabled: Packages and parts; None for all.
        disabled: Likewise, those that are forbidden.
    """
    only = None if enabled is None else frozenset(map(normalized, enabled))
    token = _OF_RUN.set(Consent(said_by, only, frozenset(map(normalized, disabled))))
    try:
        yield
    finally:
        _OF_RUN.reset(token)


def forbidden_names() -> dict[str, str]:
    """Return the names that somebody forbids, and who."""
    consents = [each for each in (_of_environment(), _OF_RUN.get()) if each is not None]
    return {name: each.said_by for each in consents for name in each.disabled}


def normalized(name: str) -> str:
    """Return the name of a package, or of a part of one, as package indexes compare it (PEP 503)."""
    distribution, separator, part = name.strip().partition(":")
    return re.sub(r"[-_.]+", "-", distribution).lower() + separator + part


def _of_environment() -> Consent | None:
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    names = [each for each in map(normalized, text.split(",")) if each]
    allowed = [each for each in names if not each.startswith("-")]
    forbidden = frozenset(each[1:] for each in names if each.startswith("-"))
    # With names that are only forbidden, all others are allowed.
    return Consent(f"{VARIABLE}={text}", None if forbidden and not allowed else frozenset(allowed), forbidden)
