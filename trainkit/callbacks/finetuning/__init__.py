"""Finetuning: training with frozen layers first, and unfreezing them at a later epoch."""

from trainkit.callbacks.finetuning.callback import BackboneFinetuning, BaseFinetuning

__all__ = ["BackboneFinetuning", "BaseFinetuning"]
