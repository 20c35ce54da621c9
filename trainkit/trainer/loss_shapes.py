"""Labels (N,) against predictions (N, 1): torch computes a loss of N x N differences. It is an error here."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIZE = r"\(torch\.Size\(\[{}\]\)\)"
# A batch of one sample is left alone: its N x N differences are the one that was meant.
_MANY = r"(?!1[\],])([\d, ]+)"
_WARNINGS = tuple(
    re.compile(
        f"Using a target size {_SIZE.format(target)} that is different to the input size {_SIZE.format(prediction)}"
    )
    for target, prediction in ((_MANY, r"\1, 1"), (rf"{_MANY}, 1", r"\1"))
)


@contextmanager
def one_shape_for_labels() -> Iterator[None]:
    """Make torch's warning an error within, where the shapes of prediction and label differ by a last 1 only.

    Nobody means that. Other shapes that differ may be meant, such as one target for all rows, and are warned of by
    torch.
    """
    added = [("error", pattern, UserWarning, None, 0) for pattern in _WARNINGS]
    # Past `warnings.filterwarnings`, after which Python would tell once more all that it tells once.
    filters: list[Any] = warnings.filters  # type: ignore[assignment]  # typed as a sequence
    filters[:0] = added
    try:
        yield
    finally:
        # What the user's code has added meanwhile stays. It may have put another list there, too.
        filters = warnings.filters  # type: ignore[assignment]
        filters[:] = [each for each in filters if not any(each is own for own in added)]
