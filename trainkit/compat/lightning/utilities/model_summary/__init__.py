"""A module in numbers: ``str(summarize(module))`` is a table."""

from trainkit.callbacks.model_summary.summarize import summarize
from trainkit.callbacks.model_summary.summarize import summarize as ModelSummary
from trainkit.callbacks.model_summary.summary import LayerSummary

__all__ = ["LayerSummary", "ModelSummary", "summarize"]
