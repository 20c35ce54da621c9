"""An `Explanation` as one page of text, 80 columns wide."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from trainkit.printable import printable
from trainkit.trainer.explain.outline import outline

if TYPE_CHECKING:  # it is drawn by this file
    from trainkit.trainer.explain.explanation import Explanation, LoaderFacts

WIDTH = 80
_MARGIN = 13
"""Where what stands behind a label begins."""

_KINDS = {
    "plain": "forward, backward, update: nothing stands between them",
    "general": "forward, backward, and an update when its group of batches is complete",
    "closure": "forward and backward are a closure, which the optimizer calls",
    "manual": "training_step, and nothing around it",
    "split": "forward and backward in as many parts as memory asks for, then the update",
    "compiled": "forward, loss, backward, clipping and update as one compiled graph",
}


def page(told: Explanation) -> str:
    """Return the page."""
    return "\n".join(line.rstrip() for line in _lines(told))


def _lines(told: Explanation) -> Iterator[str]:
    yield f"{printable(told.module)}: what trainer.fit() is going to do"
    yield ""
    yield from _block("on", [told.place])
    yield from _block("data", [_loader(each, told.ranks) for each in told.loaders])
    yield from _block("length", _length(told))
    yield from _block("starts from", [told.start])
    yield from _block("may end by", told.limits)
    yield from _block("parameters", list(_parameters(told)))
    yield from _block("sharding", told.sharding)
    yield from _block("optimizer", told.optimizers)
    yield from _block("schedule", told.schedulers)
    yield from told.rates
    yield from _block("step", [f"{told.step}: {_KINDS[told.step]}", *(f"because {why}" for why in told.why)])
    yield from _block("writes", [f"{each.path}: {each.who}, {each.what}" for each in told.writers] or ["nothing"])
    yield from _block("not known", told.left_out)
    yield ""
    yield "What is called, in this order, and who listens:"
    yield from outline(told, WIDTH)


def _block(label: str, lines: Iterable[str]) -> Iterator[str]:
    for index, line in enumerate(lines):
        indent = " " * (len(line) - len(line.lstrip()))
        wrapped = textwrap.wrap(printable(line.strip()), WIDTH - _MARGIN - len(indent), subsequent_indent="  ") or [""]
        for number, part in enumerate(wrapped):
            first = label if index == number == 0 else ""
            yield f"{first:<{_MARGIN}}{indent}{part}"


def _loader(facts: LoaderFacts, ranks: int) -> str:
    samples = "" if facts.samples is None else f"{facts.samples:,} samples, "
    if facts.batches is None:
        count = "nobody knows how many batches"
    else:
        count = f"{facts.batches:,} batch{'es' * (facts.batches != 1)}"
    of = f" of {facts.batch_size}" if facts.batch_size is not None else ""
    each = f" on each of {ranks} ranks" if ranks > 1 else ""
    return f"{facts.name:<6} {samples}{count}{of}{each}; {facts.order}"


def _length(told: Explanation) -> list[str]:
    epochs = "no limit of epochs" if math.isinf(told.epochs) else _counted(told.epochs, "epoch")
    parts = [epochs]
    if told.batches is not None:
        parts.append(_counted(told.batches, "batch", "es"))
    if told.step != "manual":
        known = "nobody knows how many updates" if math.isinf(told.updates) else _counted(told.updates, "update")
        parts.append(known + (f" of {told.accumulation} batches each" if told.accumulation > 1 else ""))
    checks = f"validates {told.validation}" if told.validation else "no validation"
    return [", ".join(parts), checks]


def _parameters(told: Explanation) -> Iterator[str]:
    trained, frozen = told.parameters
    yield f"{trained:,} trained" + (f", {frozen:,} frozen" if frozen else "")
    sizes = [f"{what} {size_text(size)}" for what, size in told.memory.items()]
    of_rank = "on this rank " if told.sharding else ""
    yield f"{of_rank}{', '.join(sizes)}: {size_text(sum(told.memory.values()))}, and the activations of a batch"


def _counted(number: float, what: str, plural: str = "s") -> str:
    return f"{int(number):,} {what}{plural if number != 1 else ''}"


def size_text(size: float) -> str:
    """Return a number of bytes, such as ``1.5 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:.3g} TB"
