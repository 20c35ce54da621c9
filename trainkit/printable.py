"""Text that cannot act on a terminal, made of names and values that come from files and users."""

from __future__ import annotations


def printable(value: object) -> str:
    r"""Return ``value`` as text of one line in which is written out whatever acts, or is not to be seen.

    These are escape sequences, line ends, characters that change the direction of writing, and halves of characters,
    which no file can hold. They are written as in Python: ``"\x1b[2J"`` becomes ``\x1b[2J`` in plain characters.

    Every name and value goes through here before it is printed. Errors, warnings and `say` see to it themselves, but
    know no line end within a name from one of their own: names in them that may hold any go through here too.
    """
    return _written_out(str(value), keeping="")


def printable_lines(text: object) -> str:
    """Return ``text`` as `printable` does, with its line ends and tabs: for whole messages."""
    return _written_out(str(text), keeping="\n\t")


def is_writable(text: str) -> bool:
    r"""Return whether files, their names and other programs can hold ``text``.

    They cannot hold a zero character, nor half of a character beyond 16 bits, as JSON may escape one: ``"\ud83d"``.
    """
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _written_out(text: str, keeping: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keeping else repr(each)[1:-1] for each in text)
