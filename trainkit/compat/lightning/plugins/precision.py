"""Precisions, by the names of Lightning's classes."""

from __future__ import annotations

import torch

from trainkit.compat.lightning.absent import absent_names
from trainkit.errors import UnknownNameError
from trainkit.plugins.resolve import resolve_precision
from trainkit.precision.base import Precision
from trainkit.precision.dtypes import Float64 as DoublePrecision
from trainkit.precision.mixed_float16 import MixedFloat16

__all__ = ["DoublePrecision", "HalfPrecision", "MixedPrecision", "Precision"]

_MIXED = ("16-mixed", "bf16-mixed")
_HALF = ("bf16-true", "16-true")


def MixedPrecision(precision: str, device: str | None = None, scaler: torch.amp.GradScaler | None = None) -> Precision:
    """Return ``16-mixed`` or ``bf16-mixed``; the device is the Trainer's."""
    if precision not in _MIXED:
        raise UnknownNameError("precision", str(precision), _MIXED, "MixedPrecision(...)")
    return MixedFloat16(scaler) if precision == "16-mixed" else resolve_precision(precision)


def HalfPrecision(precision: str = "16-true") -> Precision:
    """Return ``16-true`` or ``bf16-true``."""
    if precision not in _HALF:
        raise UnknownNameError("precision", str(precision), _HALF, "HalfPrecision(...)")
    return resolve_precision(precision)


_NAMES = "Trainer(precision=...): '32-true', '16-mixed', 'bf16-mixed', '16-true', 'bf16-true' or '64-true'"

ABSENT = dict.fromkeys(
    ("BitsandbytesPrecision", "DeepSpeedPrecision", "FSDPPrecision", "TransformerEnginePrecision", "XLAPrecision"),
    _NAMES,
)

__getattr__ = absent_names(__name__, ABSENT)
