"""Words that arguments may be."""

from enum import StrEnum


class GradClipAlgorithmType(StrEnum):
    """How gradients are clipped."""

    VALUE = "value"
    NORM = "norm"
