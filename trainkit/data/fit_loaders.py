"""What a fit takes its batches from, made anew where epochs ask for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from trainkit.data.loaders import LimitedLoader


@dataclass(slots=True)
class FitLoaders:
    """What a fit takes its batches from.

    Attributes:
        train: The training batches of an epoch.
        val: The validation loaders; empty if there is no validation.
        sanity: What is tried of them ahead of training.
        reload: Makes the loaders anew.
        reload_every_n_epochs: Epochs after which they are made anew; 0 for never.
    """

    train: LimitedLoader
    val: list[LimitedLoader]
    sanity: list[LimitedLoader]
    reload: Callable[[], FitLoaders]
    reload_every_n_epochs: int = 0
    _loaded_in_epoch: int | None = field(default=None, init=False)

    def go_on_between_epochs(self) -> None:
        """Make loaders anew for the first epoch too, if that is due in it: the epoch before was in another session."""
        self._loaded_in_epoch = 0

    def start_epoch(self, epoch: int) -> None:
        """Make loaders anew if that is due, and tell samplers which epoch comes."""
        if self._loaded_in_epoch is None:
            self._loaded_in_epoch = epoch
        # By the number of the epoch, not of epochs since the first: a run that goes on reloads where it would have.
        if self.reload_every_n_epochs and epoch % self.reload_every_n_epochs == 0 and epoch > self._loaded_in_epoch:
            self.close()
            fresh = self.reload()
            self.train, self.val, self._loaded_in_epoch = fresh.train, fresh.val, epoch
        for loader in (self.train, *self.val):
            loader.set_epoch(epoch)

    def close(self) -> None:
        """End worker processes that outlive a pass."""
        for loader in (self.train, *self.val, *self.sanity):
            loader.close()
