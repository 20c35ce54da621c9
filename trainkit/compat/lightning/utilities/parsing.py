"""A dict whose keys are attributes too."""

from trainkit.module.attribute_dict import AttributeDict

__all__ = ["AttributeDict"]
