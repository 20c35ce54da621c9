"""Splitting the parameters of a module in two, for two optimizers, or for groups with and without weight decay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from trainkit.checks import one_of
from trainkit.errors import ConfigError


@dataclass(frozen=True)
class ParameterSplit:
    """Two lists of parameters: ``matrices, rest = split_parameters(module)``. Printed, it is a table of what is where.

    Attributes:
        chosen: The first, by name.
        rest: The second, by name.
        headings: What the two are.
    """

    chosen: dict[str, nn.Parameter]
    rest: dict[str, nn.Parameter]
    headings: tuple[str, str]

    def __iter__(self) -> Iterator[list[nn.Parameter]]:
        return iter((list(self.chosen.values()), list(self.rest.values())))

    def __str__(self) -> str:
        lines = []
        for heading, part in zip(self.headings, (self.chosen, self.rest), strict=True):
            count = sum(parameter.numel() for parameter in part.values())
            lines.append(f"{heading}: {len(part)} parameters, {count:,} values")
            width = max(map(len, part), default=0)
            lines += [f"    {name:{width}}  {'x'.join(map(str, each.shape)) or '()'}" for name, each in part.items()]
        return "\n".join(lines)


def split_parameters(
    module: nn.Module, by: Literal["matrices", "decay"] = "matrices", *, rest: str | Sequence[str] = ()
) -> ParameterSplit:
    """Split the parameters of ``module`` in two.

    ============  ==============================================  ======================================
    ``by``        first                                           second
    ============  ==============================================  ======================================
    "matrices"    weights of two dimensions, but no embeddings    all else: what Muon does not take
    "decay"       weights of two and more dimensions              biases and scales, which do not decay
    ============  ==============================================  ======================================

    Each parameter is in one of them, a shared one once, under its first name; frozen ones too. Embeddings are those of
    ``nn.Embedding`` and ``nn.EmbeddingBag``.

    Args:
        module: Whose.
        by: What goes first.
        rest: Beginnings of names that go second in any case, such as ``"head."``: a last layer is not for Muon either.
            One, or several.

    Raises:
        UnknownNameError: If there is no such split.
        ConfigError: If a name in ``rest`` begins no parameter.
    """
    one_of("by", by, ("matrices", "decay"), "split_parameters()")
    embeddings = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag)}
    names = [name for name, _ in module.named_parameters()]
    beginnings = [rest] if isinstance(rest, str) else list(rest)
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in names):
            raise ConfigError(
                f"split_parameters(rest=[{beginning!r}]): no parameter of {type(module).__name__} begins so. There are "
                f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            )
    first: dict[str, nn.Parameter] = {}
    second: dict[str, nn.Parameter] = {}
    for name, parameter in module.named_parameters():
        is_matrix = parameter.ndim == 2 and id(parameter) not in embeddings
        is_first = is_matrix if by == "matrices" else parameter.ndim > 1
        part = first if is_first and not name.startswith(tuple(beginnings)) else second
        part[name] = parameter
    headings = {"matrices": ("matrices", "all else"), "decay": ("with decay", "without decay")}
    return ParameterSplit(first, second, headings[by])
