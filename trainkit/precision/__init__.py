"""Precisions: which dtype things have, and how a backward and an update are done with it."""

from trainkit.precision.base import Precision
from trainkit.precision.bfloat16 import BFloat16
from trainkit.precision.float16 import Float16
from trainkit.precision.float32 import Float32
from trainkit.precision.float64 import Float64
from trainkit.precision.mixed_bfloat16 import MixedBFloat16
from trainkit.precision.mixed_float16 import MixedFloat16

__all__ = ["BFloat16", "Float16", "Float32", "Float64", "MixedBFloat16", "MixedFloat16", "Precision"]
