"""The few words that all layers share."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeAlias

Batch: TypeAlias = Any
"""What a loader yields: tensors in any nesting."""

StepOutput: TypeAlias = dict[str, Any]
"""What a training batch produced: ``{"loss": detached and undivided, ...}``, empty if the batch was skipped."""


class Stage(StrEnum):
    """What the user asked the Trainer for."""

    FIT = "fit"
    VALIDATE = "validate"
    TEST = "test"
    PREDICT = "predict"


class Phase(StrEnum):
    """What is running right now: within ``fit``, training and validation alternate."""

    TRAIN = "train"
    SANITY_CHECK = "sanity_check"
    VALIDATE = "validate"
    TEST = "test"
    PREDICT = "predict"
