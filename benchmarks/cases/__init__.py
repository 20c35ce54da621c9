"""What is measured. A case is an entry in ``CASES`` of one of the files beside this one."""

from __future__ import annotations

from benchmarks.cases import data, fit_call, gpu, imports, memory, ranks, steps, timing
from benchmarks.cases.case import Case

CASES: dict[str, Case] = {
    **steps.CASES,
    **fit_call.CASES,
    **imports.CASES,
    **memory.CASES,
    **data.CASES,
    **gpu.CASES,
    **ranks.CASES,
    **timing.CASES,
}
