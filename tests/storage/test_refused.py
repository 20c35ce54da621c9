from __future__ import annotations

import errno

import pytest

from trainkit.storage.refused import is_full, to_do


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.EDQUOT, "Free some space, or write elsewhere."),
        (errno.EROFS, "Change the rights of that folder, or write elsewhere."),
        (errno.ENOTDIR, "A part of the path is a file and no folder: write elsewhere."),
        (errno.EIO, "Write elsewhere."),
    ],
)
def test_what_helps_is_told_by_what_was_answered(code: int, told: str) -> None:
    assert to_do(OSError(code, "no"), "write elsewhere") == told


def test_what_has_no_number_may_be_told_as_well() -> None:
    assert to_do(OSError("no"), "write elsewhere") == "Write elsewhere."
    assert not is_full(OSError("no"))
    assert is_full(OSError(errno.ENOSPC, "no"))
