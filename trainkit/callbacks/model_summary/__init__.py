"""The model summary: a table of layers with parameters, sizes and FLOPs.

`summarize` counts, `trace` runs the forward pass that finds sizes, `summary` is the result, `table` draws it with rich.
"""

from trainkit.callbacks.model_summary.callback import ModelSummary
from trainkit.callbacks.model_summary.summarize import summarize
from trainkit.callbacks.model_summary.summary import LayerSummary, Summary

__all__ = ["LayerSummary", "ModelSummary", "Summary", "summarize"]
