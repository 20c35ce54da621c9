"""What the checks have found, as a page of 80 columns or as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from trainkit.printable import printable

WIDTH = 80
_MARGIN = 13
"""Where what stands behind a label begins."""


class Fact(NamedTuple):
    """Something that is as it is.

    Attributes:
        about: What it is about, in a word or two.
        text: What is so.
    """

    about: str
    text: str


class Finding(NamedTuple):
    """Something that had better be changed.

    Attributes:
        level: ``"broken"``, with which a run fails, or ``"slow"``.
        what: What is so.
        why: Why that is bad.
        to_do: What to do about it.
    """

    level: Literal["broken", "slow"]
    what: str
    why: str
    to_do: str


Found = Fact | Finding
"""What a check yields."""


@dataclass(slots=True)
class Report:
    """All that was found, in its order.

    Attributes:
        facts: What is as it is.
        findings: What had better be changed.
        speed: What was measured, by names that tell the unit.
    """

    facts: list[Fact] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    speed: dict[str, float | None] = field(default_factory=dict)

    def add(self, found: Iterable[Found]) -> None:
        """Take what a check yields."""
        for each in found:
            if isinstance(each, Fact):
                self.facts.append(each)
            else:
                self.findings.append(each)

    @property
    def is_broken(self) -> bool:
        """Whether something is wrong with which a run fails."""
        return any(each.level == "broken" for each in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the same as values for `json`."""
        return {
            "broken": self.is_broken,
            "facts": [each._asdict() for each in self.facts],
            "findings": [each._asdict() for each in self.findings],
            "speed": self.speed,
        }

    def __str__(self) -> str:
        return "\n".join(line.rstrip() for line in self._lines())

    def _lines(self) -> Iterator[str]:
        before = ""
        for about, text in self.facts:
            yield from _wrapped("" if about == before else about, text)
            before = about
        yield ""
        # Stable: what is broken comes first, and each in the order of the checks.
        for level, what, why, to_do in sorted(self.findings, key=lambda each: each.level != "broken"):
            yield from _wrapped(level, f"{what}: {why}. To do: {to_do}.")
        if not self.findings:
            yield "nothing was found that is broken or slow."


def _wrapped(label: str, text: str) -> Iterator[str]:
    lines = textwrap.wrap(
        printable(text), WIDTH - _MARGIN, subsequent_indent="  ", break_on_hyphens=False, break_long_words=True
    )
    for index, line in enumerate(lines or [""]):
        yield f"{label if not index else '':<{_MARGIN}}{line}"
