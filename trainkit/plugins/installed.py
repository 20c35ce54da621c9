"""What installed packages offer to trainkit, and what of it nobody will find. Only their metadata is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import trainkit
from trainkit.errors import nearest_name
from trainkit.output import warn
from trainkit.plugins.catalog import Entry, Kind, entries
from trainkit.plugins.consent import forbidden_names, normalized, who_forbids
from trainkit.plugins.packages import PREFIX, broken, offering

KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order in which they are listed."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One name that a package offers, and what becomes of it.

    Attributes:
        entry: The name and who offers it.
        status: ``"shadowed"`` by another of that name, ``"forbidden"``, ``"unfit"`` for this version of trainkit,
            ``"broken"`` where the metadata of its package cannot be read, or empty: the name leads to it.
        problem: Why it does not, and what to write.
    """

    entry: Entry
    status: str = ""
    problem: str = ""


def offers() -> list[Offer]:
    """Return all names that can be used, by kind and name: those of trainkit, then those of installed packages."""
    return [offer for kind in KINDS for offer in _offers_of(kind)]


def _offers_of(kind: Kind) -> Iterator[Offer]:
    known = entries(kind)
    times = Counter(entry.name for entry in known)
    own = {entry.name for entry in known if entry.distribution == "trainkit"}
    for entry in known:
        if entry.kind != kind:
            continue  # a logger, which can be named as a callback: it is listed with the loggers
        status = problem = ""
        forbidder = who_forbids(entry.distribution, entry.name)
        if forbidder is not None:
            status, problem = "forbidden", f"may not be used: {forbidder}"
        elif need := entry.unmet_need:
            status, problem = "unfit", f"needs {need}, and this is trainkit {trainkit.__version__}"
        elif entry.distribution != "trainkit" and entry.name in own:
            status, problem = "shadowed", f"{entry.name!r} is trainkit's own: write {entry.qualified_name!r}"
        elif times[entry.name] > 1 and entry.name not in own:
            status, problem = "shadowed", f"offered by {times[entry.name]} packages: write {entry.qualified_name!r}"
        yield Offer(entry, status, problem)
    for package in broken():
        for group, name in package.names:
            if group == f"{PREFIX}{kind}":
                spoilt = Entry(kind, name, package.name, "(unknown)", "")
                yield Offer(spoilt, "broken", f"{package.why}: {package.to_do}")


def unread() -> list[str]:
    """Return a line for each entry point of an installed package that trainkit does not read, and why.

    A group of entry points that is misspelt is no error to pip, and what it offers is never found.
    """
    groups = [f"{PREFIX}{kind}" for kind in KINDS]
    found = []
    for package in offering():
        for point in package.points:
            if point.group not in groups:
                nearest = nearest_name(point.group, groups)
                hint = f"did you mean {nearest!r}?" if nearest else f"there are {', '.join(groups)}"
                found.append(
                    f"{point.name!r} of {package.name} {package.version} is in the group {point.group!r}: {hint}"
                )
    return sorted(set(found))


def tell_of_slips(*also: str) -> None:
    """Warn of what is forbidden under a name that is almost one of a package or a part: it would be used all the same.

    Args:
        also: Further names that may be forbidden.
    """
    entries_of_all = [offer.entry for offer in offers() if offer.entry.distribution != "trainkit"]
    names = (name for each in entries_of_all for name in (each.name, each.distribution, each.qualified_name))
    known = {*also, *names}
    plain = {normalized(name): name for name in known}
    for name, said_by in forbidden_names().items():
        nearest = nearest_name(name, plain)
        if name not in plain and nearest is not None:
            warn(f"{said_by} forbids {name!r}, which nobody offers. Did you mean {plain[nearest]!r}?")
