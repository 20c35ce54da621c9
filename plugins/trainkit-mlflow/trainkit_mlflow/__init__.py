"""A logger of trainkit for MLflow."""

from __future__ import annotations

from trainkit_mlflow.logger import MLflowLogger

__all__ = ["MLflowLogger"]
