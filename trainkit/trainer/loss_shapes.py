"""Labels (N,) against predictions (N, 1): torch computes a loss of N x N differences. It is an error here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_SIZE = r"\(torch\.Size\(\[{}\]\)\)"
# A batch of one sample is left alone: its N x N differences are the one that was meant.
_MANY = r"(?!1[\],])([\d, ]+)"
_WARNINGS = tuple(
    f"Using a target size {_SIZE.format(target)} that is different to the input size {_SIZE.format(prediction)}"
    for target, prediction in ((_MANY, r"\1, 1"), (rf"{_MANY}, 1", r"\1"))
)


@contextmanager
def one_shape_for_labels() -> Iterator[None]:
    """Make torch's warning an error within, where the shapes of prediction and label differ by a last 1 only.

    Nobody means that. Other shapes that differ may be meant, such as one target for all rows, and are warned of by
    torch.
    """
    before = list(warnings.filters)
    for message in _WARNINGS:
        warnings.filterwarnings("error", message=message, category=UserWarning)
    added = [each for each in warnings.filters if each not in before]
    try:
        yield
    finally:
        # What the user's code has added meanwhile stays.
        warnings.filters[:] = [each for each in warnings.filters if each not in added]  # type: ignore[index]
