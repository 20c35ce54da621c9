"""A module in numbers: ``str(summarize(module))`` is a table."""

from __future__ import annotations

from typing import Any

from torch import nn

from trainkit.callbacks.model_summary import summarize as core_summarize
from trainkit.callbacks.model_summary.summary import BYTES_PER_MB, LayerSummary

__all__ = ["LayerSummary", "ModelSummary", "summarize"]


class ModelSummary:
    """trainkit's `Summary`, under Lightning's names.

    Args:
        model: What to look at.
        max_depth: How deep to list layers within layers; 0 lists none, -1 all.
    """

    def __init__(self, model: nn.Module, max_depth: int = 1) -> None:
        self._summary = core_summarize(model, max_depth)

    @property
    def total_parameters(self) -> int:
        """How many parameters there are."""
        return self._summary.num_params

    @property
    def trainable_parameters(self) -> int:
        """How many of them require gradients."""
        return self._summary.num_trainable

    @property
    def model_size(self) -> float:
        """Their memory, with that of buffers, in megabytes."""
        return self._summary.size_bytes / BYTES_PER_MB

    @property
    def layer_names(self) -> list[str]:
        """Where the layers are in the module."""
        return [layer.name for layer in self._summary.layers]

    @property
    def layer_types(self) -> list[str]:
        """Their classes."""
        return [layer.kind for layer in self._summary.layers]

    @property
    def param_nums(self) -> list[int]:
        """The parameters of each."""
        return [layer.num_params for layer in self._summary.layers]

    @property
    def in_sizes(self) -> list[Any]:
        """The shape of what each gets; None if unknown."""
        return [layer.in_size for layer in self._summary.layers]

    @property
    def out_sizes(self) -> list[Any]:
        """The shape of what each returns; None if unknown."""
        return [layer.out_size for layer in self._summary.layers]

    def __str__(self) -> str:
        return str(self._summary)


def summarize(lightning_module: nn.Module, max_depth: int = 1) -> ModelSummary:
    """Return ``lightning_module`` in numbers; see `ModelSummary`."""
    return ModelSummary(lightning_module, max_depth)
