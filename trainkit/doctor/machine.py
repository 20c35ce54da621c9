"""The checks of a machine, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trainkit.doctor.offered import plugins
from trainkit.doctor.report import Finding, Found, Report
from trainkit.doctor.versions import dependencies, versions

BEFORE_TORCH: tuple[Callable[[], Iterator[Found]], ...] = (versions, dependencies, plugins)
"""What can be told where torch is missing or broken."""


def examine(report: Report) -> None:
    """Add to ``report`` all that can be told of this machine."""
    for check in BEFORE_TORCH:
        report.add(check())
    try:
        # Here, since these need torch, which may be what is broken.
        from trainkit.doctor.hardware import accelerators, compilers, processor, ranks
        from trainkit.doctor.places import shared_memory
    except (ImportError, OSError) as error:  # OSError: a library of it cannot be loaded
        report.add([Finding("broken", "torch cannot be imported", str(error).splitlines()[0], "install torch anew")])
        return
    for each in (processor, accelerators, ranks, compilers, shared_memory):
        report.add(each())
