"""Finetuning: layers are frozen first, and thawed later."""

from trainkit.callbacks.finetuning.callback import BackboneFinetuning, BaseFinetuning

__all__ = ["BackboneFinetuning", "BaseFinetuning"]
