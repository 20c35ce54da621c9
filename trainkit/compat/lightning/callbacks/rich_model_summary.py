"""Lightning's second name for the summary, which always uses rich where it may."""

from trainkit.compat.lightning.callbacks.model_summary import ModelSummary as RichModelSummary

__all__ = ["RichModelSummary"]
