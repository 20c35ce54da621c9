"""A table of text that fits the width of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainkit.printable import printable

_GAP = 2


def text_table(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Yield the lines of a table. Columns for which there is no room follow below, beside the first one again.

    Args:
        rows: The cells of each row, as many as in the first one, which has the heads.
        width: How long a line may be. A cell that would not let two columns stand side by side is shortened.
    """
    most = (width - _GAP) // 2
    cells = [[_shortened(printable(text), most) for text in row] for row in rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))] if cells else []
    for number, block in enumerate(_blocks(widths, width)):
        if number:
            yield ""
        for row in cells:
            yield (" " * _GAP).join(f"{row[at]:<{widths[at]}}" for at in block).rstrip()


def _blocks(widths: Sequence[int], width: int) -> Iterator[list[int]]:
    """Yield the columns that stand side by side; the first one is in each block."""
    block: list[int] = []
    for at, own in enumerate(widths):
        if len(block) > 1 and sum(widths[each] + _GAP for each in block) + own > width:
            yield block
            block = [0]
        block.append(at)
    if block:
        yield block


def _shortened(text: str, most: int) -> str:
    # In the middle: paths begin alike, and their ends tell them apart.
    if len(text) <= most:
        return text
    end = most // 2
    return f"{text[: most - end - 1]}…{text[-end:]}" if end else text[:most]
