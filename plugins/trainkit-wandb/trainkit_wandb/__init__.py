"""A logger of trainkit for Weights & Biases."""

from __future__ import annotations

from trainkit_wandb.logger import WandbLogger

__all__ = ["WandbLogger"]
