"""The few types that all packages share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import Any, Literal, TypeAlias

Batch: TypeAlias = Any
"""What a loader yields: tensors in any nesting."""

StepOutput: TypeAlias = dict[str, Any]
"""What a training batch produced: ``{"loss": detached and undivided, ...}``, empty if the batch was skipped."""


ReduceOp = Literal["sum", "mean", "min", "max"]
"""How a tensor is reduced over all ranks."""

NO_CONTEXT: AbstractContextManager[None] = nullcontext()
"""A context manager that does nothing, for strategies and precisions that have nothing to enter.

It has no state, so one object serves all, and none is made for each step.
"""


class Stage(StrEnum):
    """What the user asked the Trainer for, by the method that was called. See `Phase` for what is running."""

    FIT = "fit"
    VALIDATE = "validate"
    TEST = "test"
    PREDICT = "predict"


class Phase(StrEnum):
    """What is running right now. In the stage ``fit``, training and validation alternate."""

    TRAIN = "train"
    SANITY_CHECK = "sanity_check"
    VALIDATE = "validate"
    TEST = "test"
    PREDICT = "predict"
