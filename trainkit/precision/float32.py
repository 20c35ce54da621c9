"""32-true: everything as PyTorch makes it."""

from __future__ import annotations

from trainkit.precision.base import Precision


class Float32(Precision):
    """Nothing is converted: a module in float32, as modules are unless told otherwise, stays so."""

    name = "32-true"
