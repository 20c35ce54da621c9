"""A dict whose keys are attributes too."""

from trainkit.module.hparams import AttributeDict

__all__ = ["AttributeDict"]
