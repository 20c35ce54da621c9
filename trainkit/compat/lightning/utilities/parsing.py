"""A dict whose keys are attributes too."""

from trainkit.hparams import AttributeDict

__all__ = ["AttributeDict"]
