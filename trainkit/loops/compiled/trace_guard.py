"""When Dynamo may trace: only when it was told to, so that no graph is made behind anybody's back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DYNAMIC = (
    r"L\['batch_idx'\]",
    r"L\['momenta'\]",
    r".*\.(progress|_progress)\.(epoch|batch|global_step|total_batches)$",
    r".*\._update_count$",  # of torchmetrics objects
)
"""Integers that differ from step to step: inputs of a graph, where any other integer is a constant of it."""

MAX_GRAPHS = 1024
"""Of one function. Dynamo's own limit is 8, and counts; ours is in `step.py`, and looks at how often."""


class Permit:
    """Answers Dynamo, each time it begins to trace the step, whether it may.

    A step that would have to be compiled anew raises, before anything is changed. So whoever calls it knows, and can
    copy what the step is going to change.

    Attributes:
        permission: What the traced function calls first; it leaves nothing in the graph.
        used: Whether Dynamo has traced since permission was given last.
    """

    permission: Callable[[], bool]
    used: bool = False

    def __init__(self) -> None:
        import torch._dynamo

        self._given = False

        def permission() -> bool:
            if not self._given:
                raise NotPermitted
            self.used = True
            return True

        self.permission = torch._dynamo.assume_constant_result(permission)  # type: ignore[no-untyped-call]

    @contextmanager
    def given(self) -> Iterator[None]:
        """Within it Dynamo may trace, with what tracing a whole step needs."""
        import torch._dynamo
        import torch.compiler

        self._given, self.used = True, False
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
            self._given = False


class NotPermitted(Exception):
    """Dynamo wants to trace, and may not."""
