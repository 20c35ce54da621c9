"""Drawing learning rates as text: in blocks, or in ASCII where the output has no others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from trainkit.callbacks.schedule_preview.curve import Curve
from trainkit.loops.ahead import Ahead
from trainkit.printable import printable

HEIGHT = 5
"""Lines of a curve."""

MOST_CURVES = 4
"""Of more shapes the numbers are told, and no curve is drawn."""

MOST_NAMES = 6
"""Of more rates with one shape the extremes are told."""

MOST_TICKS = 5
MIN_WIDTH = 20
BLOCKS, ASCII = " ▁▂▃▄▅▆▇█", "  ..:::##"
"""What fills a cell to so many eighths."""


def drawing(curves: Sequence[Curve], ahead: Ahead, updates: int, width: int, *, in_blocks: bool) -> Iterator[str]:
    """Yield the lines of all curves, above one axis. Those of one shape, at whatever height, are drawn once.

    Args:
        curves: The rates.
        ahead: The updates they are of.
        updates: How many of them are drawn.
        width: Characters of a line.
        in_blocks: Whether the output can hold block characters, and lines for the axis.
    """
    foreseen = [curve for curve in curves if curve.why_not is None]
    moving = _by_shape([curve for curve in foreseen if not curve.is_constant])
    margin = max([4, *(len(_number(shape[0].highest)) for shape in moving)]) + 2
    room = max(MIN_WIDTH, width - margin - 1)
    constant = [curve for curve in foreseen if curve.is_constant]
    others = [curve for curve in curves if curve.why_not is not None]
    yield from _told(constant, [f"{_number(curve.first)} throughout" for curve in constant], "that stay as they are")
    yield from _told(others, [f"not drawn: {curve.why_not}" for curve in others], "that are not drawn")
    for index, shape in enumerate(moving):
        yield from _legend(shape, ahead)
        if index < MOST_CURVES:
            yield from _chart(shape, margin, room, BLOCKS if in_blocks else ASCII, "│" if in_blocks else "|")
            is_last = index == min(len(moving), MOST_CURVES) - 1
            yield from _axis(ahead, updates, margin, room, in_blocks, labelled=is_last)


def _told(curves: Sequence[Curve], what: Sequence[str], which: str) -> Iterator[str]:
    yield from (f"{_name(curve)}: {text}" for curve, text in zip(curves[:MOST_NAMES], what, strict=False))
    if len(curves) > MOST_NAMES:
        yield f"and {len(curves) - MOST_NAMES} more {which}"


def _by_shape(curves: Sequence[Curve]) -> list[list[Curve]]:
    shapes: dict[tuple[str, ...], list[Curve]] = {}
    for curve in curves:
        key = tuple(f"{share:.4f}" for share in curve.shares(4 * MIN_WIDTH))
        shapes.setdefault(key, []).append(curve)
    return list(shapes.values())


def _legend(shape: Sequence[Curve], ahead: Ahead) -> Iterator[str]:
    for curve in shape[:MOST_NAMES]:
        at = f"highest {_number(curve.highest)} at step {ahead.step + curve.highest_at + 1:,}"
        highest = at if curve.highest_at else "its highest"
        lowest = f", lowest {_number(curve.lowest)}" if curve.lowest < min(curve.first, curve.last) else ""
        yield f"{_name(curve)}: starts at {_number(curve.first)}, {highest}{lowest}, ends at {_number(curve.last)}"
    if len(shape) > MOST_NAMES:
        tops = [curve.highest for curve in shape[MOST_NAMES:]]
        yield f"and {len(tops)} more of this shape, highest {_number(min(tops))} to {_number(max(tops))}"


def _chart(shape: Sequence[Curve], margin: int, room: int, cells: str, side: str) -> Iterator[str]:
    full, curve = len(cells) - 1, shape[0]
    top = _number(curve.highest) if len(shape) == 1 else "100%"
    # What is more than nothing is seen, however little it is.
    levels = [0 if math.isnan(s) or s <= 0 else max(1, round(s * HEIGHT * full)) for s in curve.shares(room)]
    for line in reversed(range(HEIGHT)):
        label = top if line == HEIGHT - 1 else ""
        filled = "".join(cells[min(full, max(0, level - line * full))] for level in levels)
        yield f"{label:>{margin - 1}} {side}{filled}".rstrip()


def _axis(ahead: Ahead, updates: int, margin: int, room: int, in_blocks: bool, *, labelled: bool) -> Iterator[str]:
    marks = _marks(ahead, updates)
    corner, line, tick = "└─┬" if in_blocks else "+-+"
    columns = {step * room // updates for step, _ in marks}
    yield f"{'0':>{margin - 1}} {corner}" + "".join(tick if each in columns else line for each in range(room))
    if not labelled:
        return
    end = f"{ahead.step + updates:,}"
    steps = _labels("step", [(step, f"{ahead.step + step:,}") for step, _ in marks], updates, margin, room)
    rest = margin + 1 + room - len(steps)
    yield f"{steps}{end:>{rest}}" if rest > len(end) else steps
    if any(name for _, name in marks):
        yield _labels("epoch", marks, updates, margin, room)


def _marks(ahead: Ahead, updates: int) -> list[tuple[int, str]]:
    """Return where ticks are, as updates from the left, with the epoch that begins there, which bars count from 1."""
    starts, done = [], 0
    if ahead.num_batches is not None:
        for epoch in ahead.epochs(updates):
            starts.append((done, f"{epoch.index + 1}"))
            done += epoch.updates
    if len(starts) < 2:
        named = starts[0][1] if starts else ""
        return [(updates * part // MOST_TICKS, "" if part else named) for part in range(MOST_TICKS)]
    every = math.ceil(len(starts) / MOST_TICKS)
    return starts[::every]


def _labels(what: str, marks: Sequence[tuple[int, str]], updates: int, margin: int, room: int) -> str:
    line = f"{what:>{margin}}".ljust(margin + 1)
    for step, label in marks:
        column = margin + 1 + step * room // updates
        # One that would touch the one before it, or leave the line, is left out.
        if label and column > len(line.rstrip()) and column + len(label) <= margin + 1 + room:
            line = line.ljust(column) + label
    return line


def _name(curve: Curve) -> str:
    return printable(curve.name)


def _number(rate: float) -> str:
    return f"{rate:.3g}"
