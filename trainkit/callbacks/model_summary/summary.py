"""The summary of a module, and its text as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from trainkit.callbacks.model_summary.trace import Size
from trainkit.printable import printable

BYTES_PER_MB = 1e6


class Column(NamedTuple):
    """A column of the table of layers."""

    title: str
    cells: list[str]
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One row of the summary: a layer, or the parameters that are in none.

    Attributes:
        name: Its place in the module; "(own)" for the parameters that are in no layer.
        kind: The name of its class.
        num_params: Number of its parameters and those of the layers in it; shared ones count once.
        mode: Whether it is in train or eval mode; None for the row "(own)", which is no layer.
        in_size: The shape of its input; None if unknown.
        out_size: The shape of its output; None if unknown.
        flops: Floating-point operations of one forward pass; None if they were not counted.
    """

    name: str
    kind: str
    num_params: int
    mode: Literal["train", "eval"] | None
    in_size: Size = None
    out_size: Size = None
    flops: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """The summary of a module; ``str()`` returns it as a table.

    Attributes:
        layers: The layers down to the depth that was asked for.
        num_trainable: Number of parameters (elements, not tensors) that require gradients.
        num_frozen: Number of parameters that do not.
        num_lazy: Number of lazy parameter tensors, whose shapes the first batch will give. No other figure has them.
        size_bytes: Memory of all parameters and buffers.
        num_train_modules: Number of modules in train mode, the module itself included.
        num_eval_modules: Number of modules in eval mode.
        flops: Floating-point operations of one forward pass; None if they were not counted.
    """

    layers: list[LayerSummary]
    num_trainable: int
    num_frozen: int
    num_lazy: int
    size_bytes: int
    num_train_modules: int
    num_eval_modules: int
    flops: int | None = None

    @property
    def num_params(self) -> int:
        """Number of all parameters, trained or frozen."""
        return self.num_trainable + self.num_frozen

    @property
    def size_mb(self) -> float:
        """Memory of all parameters and buffers in MB, of a million bytes each."""
        return self.size_bytes / BYTES_PER_MB

    def __str__(self) -> str:
        blocks = []
        if self.layers:
            shown = self.columns()
            header = [column.title for column in shown]
            rows = [list(row) for row in zip(*(column.cells for column in shown), strict=True)]
            rule = ["-" * max(map(len, (column.title, *column.cells))) for column in shown]
            blocks.append(_aligned([header, rule, *rows], [column.is_number for column in shown]))
        blocks.append(_aligned([list(line) for line in self.totals()], [False, False]))
        return "\n\n".join(blocks)

    def columns(self) -> list[Column]:
        """Return the columns of the table of layers. Sizes and FLOPs are left out where none is known."""
        layers = self.layers
        shown = [
            Column("Name", [printable(layer.name) for layer in layers]),
            Column("Type", [printable(layer.kind) for layer in layers]),
            Column("Params", [f"{layer.num_params:,}" for layer in layers], is_number=True),
            Column("Mode", [layer.mode or "" for layer in layers]),
        ]
        if any(layer.in_size is not None or layer.out_size is not None for layer in layers):
            shown += [
                Column("In", [_size_text(layer, layer.in_size) for layer in layers]),
                Column("Out", [_size_text(layer, layer.out_size) for layer in layers]),
            ]
        if self.flops is not None:
            flops = ["" if layer.flops is None else f"{layer.flops:,}" for layer in layers]
            shown.append(Column("FLOPs", flops, is_number=True))
        return shown

    def totals(self) -> list[tuple[str, str]]:
        """Return the figures of the whole module, each with its label."""
        lines = [
            ("Trainable params", f"{self.num_trainable:,}"),
            ("Frozen params", f"{self.num_frozen:,}"),
            ("Total params", f"{self.num_params:,}"),
            ("Size", f"{self.size_mb:,.3f} MB"),
            ("Modules", f"{self.num_train_modules} in train mode, {self.num_eval_modules} in eval mode"),
        ]
        if self.flops is not None:
            lines.append(("FLOPs, forward", f"{self.flops:,}"))
        if self.num_lazy:
            lines.append(("Not counted", f"{self.num_lazy} lazy parameters, whose shapes the first batch will give"))
        return lines


def _size_text(layer: LayerSummary, size: Any) -> str:
    # Without a mode it is the row "(own)", which has no sizes. None within a size stands for what is no tensor.
    return "" if layer.mode is None else "?" if size is None else str(size).replace("None", "?")


def _aligned(rows: Sequence[Sequence[str]], is_number: Sequence[bool]) -> str:
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, is_number, strict=True)
        lines.append("  ".join(text.rjust(width) if right else text.ljust(width) for text, width, right in cells))
    # An empty last cell would leave blanks at the end of the line.
    return "\n".join(line.rstrip() for line in lines)
