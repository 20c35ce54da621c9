"""The learning rates of a fit as a curve, drawn before it begins."""

from trainkit.callbacks.schedule_preview.callback import SchedulePreview

__all__ = ["SchedulePreview"]
