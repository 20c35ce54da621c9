"""Raise instead of letting Dynamo recompile silently: it may trace only when it was told to."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DYNAMIC = (
    r"L\['batch_idx'\]",
    r"L\['momenta'\]",
    r".*\.(progress|_progress)\.(epoch|batch|global_step|total_batches|samples)$",
    r".*\._update_count$",  # of torchmetrics objects
)
"""Integers that differ from step to step: inputs of a graph, where any other integer is a constant of it."""

MAX_GRAPHS = 1024
"""Of one function. Dynamo's own limit is 8, and counts; ours is in `step.py`, and looks at how often."""


class TraceGuard:
    """Answers Dynamo, each time it begins to trace the step, whether it may.

    A step that would have to be compiled anew raises, before anything is changed. So whoever calls it knows, and can
    copy what the step is going to change.

    Attributes:
        check: What the traced function calls first: raises unless tracing is allowed, and leaves nothing in the graph.
        has_traced: Whether Dynamo has traced since it was allowed last.
    """

    check: Callable[[], bool]
    has_traced: bool = False

    def __init__(self) -> None:
        import torch._dynamo

        self._is_allowed = False

        def check() -> bool:
            if not self._is_allowed:
                raise TracingRefusedError
            self.has_traced = True
            return True

        self.check = torch._dynamo.assume_constant_result(check)  # type: ignore[no-untyped-call]

    @contextmanager
    def tracing_allowed(self) -> Iterator[None]:
        """Within it Dynamo may trace, with what tracing a whole step needs."""
        import torch._dynamo
        import torch.compiler

        self._is_allowed, self.has_traced = True, False
        try:
            with (
                warnings.catch_warnings(),
                torch._dynamo.config.patch(
                    trace_autograd_ops=True,
                    recompile_limit=MAX_GRAPHS,
                    accumulated_recompile_limit=MAX_GRAPHS,
                ),
                torch.compiler.config.patch(dynamic_sources=",".join(DYNAMIC)),  # type: ignore[attr-defined]
            ):
                # Torch's own, of what it uses itself; an error in a program that makes errors of warnings.
                warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
                yield
        finally:
            self._is_allowed = False


class TracingRefusedError(Exception):
    """Dynamo wants to trace, and may not."""
