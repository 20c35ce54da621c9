"""Words that arguments may be."""

from trainkit.compat.lightning.utilities import GradClipAlgorithmType

__all__ = ["GradClipAlgorithmType"]
