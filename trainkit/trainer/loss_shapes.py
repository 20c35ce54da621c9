"""Labels (N,) against predictions (N, 1): torch computes a loss of N x N differences. It is an error here."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trainkit.errors import ModuleError, note_on

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
    torch. `named_error` makes one of ours of the error.
    """
    # By hand: of two equal filters, as in a fit within a fit, `warnings.filterwarnings` keeps one only.
    added = [("error", pattern, UserWarning, None, 0) for pattern in _WARNINGS]
    filters: list[Any] = warnings.filters  # type: ignore[assignment]  # typed as a sequence
    filters[:0] = added
    # Of what it has told before, in a step called by hand, Python asks no filter. Any such context makes it forget.
    with warnings.catch_warnings():
        pass
    try:
        yield
    finally:
        # What the user's code has added meanwhile stays. It may have put another list there, too.
        filters = warnings.filters  # type: ignore[assignment]
        filters[:] = [each for each in filters if not any(each is own for own in added)]


def named_error(error: BaseException) -> BaseException:
    """Return what to raise in place of ``error``, if that is the warning of shapes; any other is returned as it is.

    What was noted on it is noted on the new one.
    """
    if not (isinstance(error, UserWarning) and any(each.match(str(error)) for each in _WARNINGS)):
        return error
    label, prediction = (tuple(map(int, sizes.split(", "))) for sizes in re.findall(r"\[([\d, ]+)\]", str(error))[:2])
    ours = ModuleError(
        f"a loss was given labels of shape {label} for predictions of shape {prediction}, and would compare each "
        "prediction with the label of every sample. Give both one shape."
    )
    for note in getattr(error, "__notes__", ()):
        note_on(ours, note)
    return ours
