"""The table of metrics: a CSV file that grows by rows and columns, and in which a run that goes on replaces rows.

A row is one line, so that damage ends with its line. Bytes that are no UTF-8 come through as they are.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from trainkit.loggers.rows_behind import Row
from trainkit.printable import printable
from trainkit.storage.regular import open_own
from trainkit.storage.temporary import replacement

FIRST_COLUMNS = ("step", "epoch")

EVALUATED = "\r\n"
"""Ends the line of a row that no run will log again, such as one of a test. To readers it is a line end like any."""

_STEP = re.compile(r"-?[0-9]{1,18},")
_MAX_HEADER_BYTES = 1 << 24


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]], of_training: Sequence[bool] = ()) -> None:
    """Append ``rows`` to the table at ``path``; columns that it does not have yet are added on the right.

    Args:
        path: The path of the table.
        rows: What to append.
        of_training: For each row whether it is one of training; all are if it is empty.

    Raises:
        OSError: If it cannot be written, or is no table of trainkit.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _repaired_header(path)
    columns = _columns(header, rows)
    if columns != header:
        with _replacing(path) as (table, new):
            new.write(_line(columns))
            new.writelines(_widened(text, len(columns) - len(header)) for text in itertools.islice(table, 1, None))
    lines = [_row_line(row, columns, of) for row, of in zip(rows, of_training or [True] * len(rows), strict=True)]
    size = path.stat().st_size
    try:
        with open_own(path, "ab") as file:
            file.writelines(line.encode(errors="surrogateescape") for line in lines)
    except OSError:
        # What a full disk still took of them would be there twice when they are written again.
        with suppress(OSError), open_own(path, "r+b") as file:
            file.truncate(size)
        raise


def count_rows(path: Path) -> int:
    """Return how many rows the table at ``path`` has; 0 if there is none."""
    try:
        with open_own(path) as file:
            # The first line is the header. Half a line, which a kill left, is no row.
            return max(0, sum(line.endswith(b"\n") for line in file) - 1)
    except FileNotFoundError:
        return 0


def size_of(path: Path) -> int | None:
    """Return how many bytes the file at ``path`` has; None if there is none."""
    return path.stat().st_size if path.exists() else None


def _repaired_header(path: Path) -> list[str]:
    """Return the names of the columns, after removing a last line that a kill left without its end."""
    with suppress(FileExistsError):
        open(path, "xb").close()
    with open_own(path, "r+b") as file:
        header = header_of(file)
        # Somebody may have put another file there in mid-run. This one is to lose no byte.
        if header is None:
            raise OSError("it does not begin as a table of trainkit does, and is left as it is")
        # Half of "0.25" is "0.2", which nobody would recognise as damaged, and the next row would be glued to it.
        end = size = file.seek(0, os.SEEK_END)
        while end and (file.seek(end - 1), file.read(1))[1] != b"\n":
            end -= 1
        if end < size:
            file.truncate(end)
        return header


def header_of(file: BinaryIO) -> list[str] | None:
    """Return the names of the columns of a table, none if it is empty; None if it is no table of trainkit."""
    line = file.readline(_MAX_HEADER_BYTES).decode(errors="surrogateescape")
    if not line:
        return []
    try:
        columns = next(csv.reader([line], strict=True))
    except csv.Error:
        return None
    begins = line.endswith("\n") and tuple(columns[: len(FIRST_COLUMNS)]) == FIRST_COLUMNS
    return columns if begins and len(set(columns)) == len(columns) else None


def rows_behind(path: Path, number: int) -> tuple[int, list[Row]]:
    """Return how many of the first ``number`` rows the table at ``path`` has, and the rows of training after these."""
    try:
        file = open_own(path)
    except FileNotFoundError:
        return 0, []
    with _as_text(file) as table:
        lines = _whole_lines(table)
        columns = _cells(next(lines, ""))
        first = sum(1 for _ in itertools.islice(lines, number))
        return first, [_row(columns, line) for line in lines if _is_of_training(line)]


def replace_rows(path: Path, number: int, passed: int, rows: Sequence[tuple[Mapping[str, Any], bool]]) -> int:
    """Write ``rows`` in the place of rows of training. A kill in between leaves the old table or the new one.

    Args:
        path: The path of the table.
        number: How many rows to leave at its beginning.
        passed: How many rows of training to remove behind these.
        rows: The new rows, and for each whether it is one of training.

    Returns:
        The number of rows ahead of the first one of training that is still to be removed, or of all rows.
    """
    header = _repaired_header(path)
    columns = _columns(header, [row for row, _ in rows])
    with _replacing(path) as (table, new):
        body = [_widened(text, len(columns) - len(header)) for text in itertools.islice(table, 1, None)]
        head, tail = body[:number], list[str]()
        for text in body[number:]:
            if _is_of_training(text) and passed:
                passed -= 1
            elif _is_of_training(text) or tail:
                tail.append(text)
            else:
                head.append(text)
        head += [_row_line(row, columns, of_training) for row, of_training in rows]
        new.writelines([_line(columns), *head, *tail])
    return len(head)


def _is_of_training(text: str) -> bool:
    # What is no row of ours, because it does not begin with a step, belongs to somebody else.
    return not text.endswith(EVALUATED) and _STEP.match(text) is not None


def _columns(header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    # A dict keeps the order of first appearance: old columns stay where they are.
    return list(dict.fromkeys([*header, *FIRST_COLUMNS, *(name for row in rows for name in row)]))


def _row_line(row: Mapping[str, Any], columns: Sequence[str], of_training: bool) -> str:
    # Text is no number, but a logger takes it, and with a line end in it the row would be two.
    cells = [printable(cell) if isinstance(cell := row.get(name, ""), str) else cell for name in columns]
    return _line(cells, "\n" if of_training else EVALUATED)


def _line(cells: Sequence[Any], end: str = "\n") -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue() + end


def _widened(text: str, number: int) -> str:
    """Return the line of a row with ``number`` empty cells more."""
    cells = text.rstrip("\r\n")
    return cells + "," * number + text[len(cells) :]


def _row(columns: Sequence[str], text: str) -> Row:
    """Return the step and the names of a row `_is_of_training` has found."""
    step, _, _ = text.partition(",")
    return int(step), frozenset(name for name, cell in zip(columns, _cells(text), strict=False) if cell) - {"step"}


def _cells(text: str) -> list[str]:
    try:
        return next(csv.reader([text]), [])
    except csv.Error:  # a cell that is longer than `csv` reads, and no number
        return []


def _whole_lines(table: Iterable[str]) -> Iterator[str]:
    """Yield the lines of ``table`` with their ends. Half a line, which a kill left, is none."""
    return (line for line in table if line.endswith("\n"))


def _as_text(file: BinaryIO) -> TextIO:
    return io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="\n")


@contextmanager
def _replacing(path: Path) -> Iterator[tuple[Iterator[str], TextIO]]:
    """Yield the lines of the table at ``path``, header first, and the file that replaces it at the end."""
    with open_own(path) as file, _as_text(file) as old, replacement(path) as temporary, _as_text(temporary) as new:
        yield _whole_lines(old), new
