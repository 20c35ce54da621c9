"""The table of metrics: a CSV file that grows by rows and columns, and in which a run that goes on replaces rows."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from trainkit.loggers.rows_behind import Row
from trainkit.storage.temporary import replacement

FIRST_COLUMNS = ("step", "epoch")

EVALUATED = "\r\n"
"""Ends the line of a row that no run will log again, such as one of a test. To readers it is a line end like any."""


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]], of_training: Sequence[bool] = ()) -> None:
    """Append ``rows`` to the table at ``path``; columns that it does not have yet are added on the right.

    Args:
        path: The path of the table.
        rows: What to append.
        of_training: For each row whether it is one of training; all are if it is empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _repaired_header(path)
    columns = _columns(header, rows)
    if columns != header:
        with _replacing(path) as (table, new):
            new.write(_line(columns))
            new.writelines(_widened(text, len(columns) - len(header)) for _, text in itertools.islice(table, 1, None))
    lines = [_row_line(row, columns, of) for row, of in zip(rows, of_training or [True] * len(rows), strict=True)]
    size = path.stat().st_size
    try:
        with open(path, "a", newline="", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError:
        # What a full disk still took of them would be there twice when they are written again.
        with suppress(OSError):
            os.truncate(path, size)
        raise


def count_rows(path: Path) -> int:
    """Return how many rows the table at ``path`` has; 0 if there is none."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            # Rows, not lines: a quoted name of a metric may hold line ends. The first row is the header.
            return max(0, sum(1 for _ in csv.reader(file)) - 1)
    except FileNotFoundError:
        return 0


def size_of(path: Path) -> int | None:
    """Return how many bytes the file at ``path`` has; None if there is none."""
    return path.stat().st_size if path.exists() else None


def _repaired_header(path: Path) -> list[str]:
    """Return the names of the columns, after removing a last line that a kill left without its end."""
    path.touch()
    # Half of "0.25" is "0.2", which nobody would recognise as damaged, and the next row would be glued to it.
    with open(path, "rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end and (file.seek(end - 1), file.read(1))[1] != b"\n":
            end -= 1
        if end < size:
            file.truncate(end)
    with open(path, newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def rows_behind(path: Path, number: int) -> tuple[int, list[Row]]:
    """Return how many of the first ``number`` rows the table at ``path`` has, and the rows of training after these."""
    if not path.exists():
        return 0, []
    with open(path, newline="", encoding="utf-8") as file:
        records = _records(file)
        columns, _ = next(records, ([], ""))
        first = sum(1 for _ in itertools.islice(records, number))
        return first, [_row(columns, cells) for cells, text in records if _is_of_training(text)]


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
    _repaired_header(path)
    with _replacing(path) as (table, new):
        header, *records = table
        columns = _columns(header[0], [row for row, _ in rows])
        body = [_widened(text, len(columns) - len(header[0])) for _, text in records]
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
    return not text.endswith(EVALUATED) and text.partition(",")[0].lstrip("-").isdigit()


def _columns(header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    # A dict keeps the order of first appearance: old columns stay where they are.
    return list(dict.fromkeys([*header, *FIRST_COLUMNS, *(name for row in rows for name in row)]))


def _row_line(row: Mapping[str, Any], columns: Sequence[str], of_training: bool) -> str:
    return _line([row.get(name, "") for name in columns], "\n" if of_training else EVALUATED)


def _line(cells: Sequence[Any], end: str = "\n") -> str:
    text = io.StringIO()
    # Quoted is a cell with a character of the line end, and readers take either of the two for one.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + end


def _widened(text: str, number: int) -> str:
    """Return the line of a row with ``number`` empty cells more."""
    cells = text.rstrip("\r\n")
    return cells + "," * number + text[len(cells) :]


def _row(columns: Sequence[str], cells: Sequence[str]) -> Row:
    values = {name: cell for name, cell in zip(columns, cells, strict=False) if cell}
    return int(values.pop("step", 0)), frozenset(values)


def _records(file: Iterable[str]) -> Iterator[tuple[list[str], str]]:
    """Yield the cells of each row, and its text with the line end. Half a line, which a kill left, is no row."""
    lines: list[str] = []
    for cells in csv.reader(lines.append(line) or line for line in file):  # type: ignore[func-returns-value]
        text = "".join(lines)
        lines.clear()
        if text.endswith("\n"):
            yield cells, text


@contextmanager
def _replacing(path: Path) -> Iterator[tuple[Iterator[tuple[list[str], str]], TextIO]]:
    """Yield the rows of the table at ``path``, header first, and the file that replaces it at the end."""
    with (
        open(path, newline="", encoding="utf-8") as old,
        replacement(path) as file,
        io.TextIOWrapper(file, encoding="utf-8", newline="") as new,
    ):
        yield _records(old), new
