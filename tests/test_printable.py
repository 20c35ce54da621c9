from __future__ import annotations

import pytest

from trainkit.errors import CheckpointError, CheckpointNotFoundError, LogWriteError, UnsupportedImportError
from trainkit.printable import is_writable, printable, printable_lines


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val/loss [é, 漢] {x} <b>", "val/loss [é, 漢] {x} <b>"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x9b31m", r"a\x9b31m"),
        ("50 %\r100 %", r"50 %\r100 %"),
        ("a\nb: whole", r"a\nb: whole"),
        ("safe\u202egnp", r"safe\u202egnp"),
        ("a\u2028b\u200bc\u2066", r"a\u2028b\u200bc\u2066"),
        ("half \ud800", r"half \ud800"),
        ("a\0\x7f\x08", r"a\x00\x7f\x08"),
        (3, "3"),
    ],
)
def test_what_acts_or_is_not_seen_is_written_out(name: object, text: str) -> None:
    assert printable(name) == text
    assert printable(name).isprintable()


def test_messages_keep_their_lines() -> None:
    assert printable_lines("a\n\tb\x1b[2J\r\n") == "a\n\tb\\x1b[2J\\r\n"


@pytest.mark.parametrize("kind", [CheckpointError, CheckpointNotFoundError, LogWriteError])
def test_the_text_of_an_error_cannot_act_on_a_terminal(kind: type[Exception]) -> None:
    assert str(kind("there is no \x1b[2J\n    found a")) == "there is no \\x1b[2J\n    found a"


def test_nor_that_of_an_error_that_is_another_builtin_one() -> None:
    assert str(UnsupportedImportError("\x07", "b")) == "trainkit has no \\x07.\n    instead      b"


@pytest.mark.parametrize(
    ("text", "can_be_held"), [("val/é\n", True), ("", True), ("half \ud800", False), ("a\0", False)]
)
def test_what_no_file_can_hold_is_known(text: str, can_be_held: bool) -> None:
    assert is_writable(text) is can_be_held
