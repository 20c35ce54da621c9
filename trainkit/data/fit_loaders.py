"""The loaders of a fit: training, validation and sanity check, made again every n epochs if asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from trainkit.data.loaders import LimitedLoader


@dataclass(slots=True)
class FitLoaders:
    """The loaders of a fit.

    Attributes:
        train: The training loader.
        val: The validation loaders; empty if there is no validation.
        sanity: The same loaders as ``val``, limited to what the sanity check tries ahead of training.
        reload: Calls the user's ``..._dataloader`` methods again.
        reload_every_n_epochs: Epochs after which the loaders are made again; 0 for never.
    """

    train: LimitedLoader
    val: list[LimitedLoader]
    sanity: list[LimitedLoader]
    reload: Callable[[], FitLoaders]
    reload_every_n_epochs: int = 0
    _loaded_in_epoch: int | None = field(default=None, init=False)

    def resume_between_epochs(self) -> None:
        """Let the first epoch of this process make the loaders again too, if that is due in it.

        For a run that resumed at the end of an epoch: an uninterrupted run would make them again there.
        """
        self._loaded_in_epoch = 0

    def start_epoch(self, epoch: int) -> None:
        """Make the loaders again if that is due, and tell samplers which epoch comes."""
        # They were made when the fit was prepared, so the first epoch has fresh ones.
        if self._loaded_in_epoch is None:
            self._loaded_in_epoch = epoch
        # By the index of the epoch, not by the epochs since this process began: a resumed run reloads in the same
        # epochs as an uninterrupted one.
        if self.reload_every_n_epochs and epoch % self.reload_every_n_epochs == 0 and epoch > self._loaded_in_epoch:
            self.close()
            fresh = self.reload()
            # No new loaders for the sanity check, which runs once, before the first epoch.
            self.train, self.val, self._loaded_in_epoch = fresh.train, fresh.val, epoch
        for loader in (self.train, *self.val):
            loader.set_epoch(epoch)

    def close(self) -> None:
        """End worker processes that outlive a pass."""
        for loader in (self.train, *self.val, *self.sanity):
            loader.close()
