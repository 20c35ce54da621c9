"""Plugins of installed packages that nobody will find, or that cannot be imported."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from trainkit.doctor.report import Fact, Finding, Found
from trainkit.plugins.catalog import SINGULAR, Entry
from trainkit.plugins.installed import offers, unread
from trainkit.plugins.packages import broken


def plugins() -> Iterator[Found]:
    """Look at what installed packages offer. Nothing of them is imported, as nobody has named it."""
    theirs = [offer for offer in offers() if offer.entry.distribution != "trainkit" and offer.status != "broken"]
    packages = sorted({f"{offer.entry.distribution} {offer.entry.version}" for offer in theirs})
    yield Fact("plugins", ", ".join(packages) or "those of trainkit alone")
    for offer in theirs:
        if _is_lost(offer.entry):
            yield Finding(
                "broken",
                f"{SINGULAR[offer.entry.kind]} {offer.entry.qualified_name!r} is broken",
                f"there is no module {offer.entry.target.partition(':')[0]!r}",
                f"repair or uninstall {offer.entry.distribution}",
            )
        elif offer.status == "unfit":
            yield Finding(
                "broken",
                f"{SINGULAR[offer.entry.kind]} {offer.entry.qualified_name!r} does not fit",
                f"it {offer.problem}",
                f"install another version of {offer.entry.distribution}, or of trainkit",
            )
    for package in broken():
        names = ", ".join(name for _, name in package.names)
        yield Finding(
            "broken", f"the metadata of {package.name} are broken, which offers {names}", package.why, package.to_do
        )
    for line in unread():
        yield Finding("slow", "a plugin is not read", line, "repair or uninstall that package")


def _is_lost(entry: Entry) -> bool:
    """Whether the package of a target is not there; only its outermost name can be looked for without importing."""
    try:
        return find_spec(entry.target.partition(":")[0].partition(".")[0]) is None
    except ValueError:  # a module that was made by hand
        return False
