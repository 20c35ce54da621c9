"""What users change on a Trainer between two calls: ``trainer.limit_val_batches = 0``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from trainkit.errors import ConfigError

if TYPE_CHECKING:
    from trainkit.compat.lightning.trainer.trainer import Trainer

GROUPS = {
    "stop": ("max_epochs", "min_epochs", "max_steps", "min_steps"),
    "data": (
        "limit_train_batches",
        "limit_val_batches",
        "limit_test_batches",
        "limit_predict_batches",
        "overfit_batches",
        "val_check_interval",
        "check_val_every_n_epoch",
        "num_sanity_val_steps",
        "reload_dataloaders_every_n_epochs",
    ),
    "optimization": ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
    "output": ("log_every_n_steps",),
}
"""The settings that may be changed, by the group of the Trainer's arguments that holds them."""


class Setting:
    """A setting of a Trainer that may be read, and set between two calls; how long to train also during one.

    Args:
        name: Its name.
        group: Which group of ``trainer.arguments`` holds it.
        getter: The property by which it is read.
    """

    def __init__(self, name: str, group: str, getter: property) -> None:
        self._name = name
        self._group = group
        self._getter = getter
        self.__doc__ = getter.__doc__

    def __get__(self, trainer: Trainer | None, owner: type) -> Any:
        return self if trainer is None else self._getter.__get__(trainer, owner)

    def __set__(self, trainer: Trainer, value: Any) -> None:
        if trainer.state.status == "running" and self._group != "stop":
            raise ConfigError(
                f"trainer.{self._name} = {value!r} came while trainer.{trainer.state.fn}() is running, whose loop has "
                "been chosen by then. Set it before the call; GradientAccumulationScheduler changes accumulation by "
                "epoch, and module.configure_gradient_clipping clipping by step."
            )
        group = dataclasses.replace(getattr(trainer.arguments, self._group), **{self._name: value})
        trainer.arguments = dataclasses.replace(trainer.arguments, **{self._group: group})
        if trainer.state.status == "running":
            trainer.follow_limits()


def add_settings(cls: type) -> type:
    """Give ``cls``, a Trainer, a `Setting` for each property of `GROUPS`."""
    for group, names in GROUPS.items():
        for name in names:
            setattr(cls, name, Setting(name, group, getattr(cls, name)))
    return cls
