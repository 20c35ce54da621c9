"""The model summary: counting (summarize.py), a forward pass that leaves no trace (trace.py), and how it is shown."""

from trainkit.callbacks.model_summary.callback import ModelSummary
from trainkit.callbacks.model_summary.summarize import summarize
from trainkit.callbacks.model_summary.summary import LayerSummary, Summary

__all__ = ["LayerSummary", "ModelSummary", "Summary", "summarize"]
