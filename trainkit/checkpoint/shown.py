"""Values of a checkpoint as text: short, on one line, and of tensors the form alone."""

from __future__ import annotations

import reprlib
from typing import Any

import torch
from torch import Tensor

from trainkit.printable import printable


def shown(value: Any, longest: int) -> str:
    """Return ``value`` as Python writes it, cut off where it is long.

    Args:
        value: Anything that may be in a checkpoint.
        longest: The most characters.
    """
    text = printable(_Writer(longest).repr(value))
    return text if len(text) <= longest else f"{text[:longest]}..."


def form(tensor: Tensor) -> str:
    """Return the type and the shape of a tensor, such as ``float32[2, 3]``, and what is unusual about it."""
    layout = "" if tensor.layout is torch.strided else f" {str(tensor.layout).removeprefix('torch.')}"
    where = " on meta" if tensor.is_meta else ""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}{layout}{where}"


class _Writer(reprlib.Repr):
    """``repr`` that writes no more than is shown: values may be large, and to print some tensors is an error."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        # Cut in the middle, where `shown` cuts off the end; so a little more of each.
        self.maxstring = self.maxother = self.maxlong = 2 * longest
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = longest

    def repr1(self, x: Any, level: int) -> str:
        return f"a tensor, {form(x)}" if isinstance(x, Tensor) else super().repr1(x, level)
