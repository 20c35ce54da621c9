"""Precisions: dtypes, and how backward and update are done with them. Read ``base.py`` first."""

from trainkit.precision.base import Precision
from trainkit.precision.dtypes import BFloat16, Float16, Float32, Float64, MixedBFloat16
from trainkit.precision.mixed_float16 import MixedFloat16

__all__ = ["BFloat16", "Float16", "Float32", "Float64", "MixedBFloat16", "MixedFloat16", "Precision"]
