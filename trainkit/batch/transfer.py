"""Moving a batch to the device, with the user's three transfer hooks around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainkit.batch.copy_stream import SideStream
from trainkit.batch.nested import map_leaves
from trainkit.errors import DataError
from trainkit.reflection import overrides
from trainkit.types import Batch

_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class TransferHooks:
    """The three methods through which every batch passes on its way to a step. Modules and data modules have them."""

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Return the batch to be moved: the place to change it on the device where it was loaded."""
        return batch

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Return ``batch`` on ``device``. By default `move` is used."""
        return move(batch, device)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Return the batch for the step: the place to change it on the device, such as for augmentations."""
        return batch


def make_transfer(
    module: TransferHooks,
    datamodule: TransferHooks | None,
    device: torch.device,
    convert: Callable[[Batch], Batch] | None = None,
) -> Callable[[Batch, int], Batch]:
    """Return one function that takes ``(batch, dataloader_idx)`` and returns the batch on the device.

    Args:
        module: Its transfer hooks are called if it overrides them.
        datamodule: Hooks that it overrides are called instead of those of the module.
        device: The device on which the step runs.
        convert: Changes dtypes, for the precision. Called when the batch is on the device; None changes nothing.
    """
    # What can be left out is decided here, once, and not for each batch.
    before, to_device, after = (_overridden(name, module, datamodule) for name in _HOOKS)
    mover = _mover(device)
    if before is to_device is after is convert is None:
        return mover

    def transfer(batch: Batch, dataloader_idx: int) -> Batch:
        if before is not None:
            batch = _returned(before(batch, dataloader_idx), before)
        if to_device is not None:
            batch = _returned(to_device(batch, device, dataloader_idx), to_device)
        else:
            batch = mover(batch, dataloader_idx)
        # Ahead of the user's last hook, which so sees the batch as the step will.
        if convert is not None:
            batch = convert(batch)
        if after is not None:
            batch = _returned(after(batch, dataloader_idx), after)
        return batch

    return transfer


def move(batch: Batch, device: torch.device) -> Batch:
    """Return ``batch`` with all tensors, and all objects that have a ``to`` method, on ``device``.

    Objects without a ``to`` method stay. If nothing had to move, the same object is returned.

    Raises:
        DataError: If an object's ``to`` method fails.
    """
    # A copy from CUDA to the CPU that does not block gives a tensor whose values are not there yet. In the other
    # direction it is safe: from pageable memory torch waits by itself.
    non_blocking = device.type == "cuda"

    def move_leaf(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf if leaf.device == device else leaf.to(device, non_blocking=non_blocking)
        try:
            moved = leaf.to(device)
        except torch.OutOfMemoryError:
            raise  # it is a RuntimeError, and not the object's fault
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise DataError(
                f"a {type(leaf).__name__} in the batch cannot be moved to {device}: its to() raised {error!r}.\n"
                "    to do        let to(device) return the moved object, or override transfer_batch_to_device()."
            ) from error
        return leaf if moved is None else moved  # some to() methods move in place and return nothing

    return map_leaves(move_leaf, batch)


def _mover(device: torch.device) -> Callable[[Batch, int], Batch]:
    """Return the fastest function that moves a batch to ``device`` and does nothing else."""
    if device.type == "cuda":
        copy_large = SideStream(device)
        return lambda batch, dataloader_idx: move(copy_large(batch), device)
    if device.type != "cpu":
        return lambda batch, dataloader_idx: move(batch, device)

    def transfer(batch: Batch, dataloader_idx: int) -> Batch:
        # The common case, decided without walking through the batch: a few tensors that are on the CPU already. Exact
        # types, as a subclass of list or Tensor may have a to() of its own.
        if type(batch) is tuple or type(batch) is list:
            for item in batch:
                if not (type(item) is Tensor and item.is_cpu):
                    break
            else:
                return batch
        return move(batch, device)

    return transfer


def _overridden(name: str, module: TransferHooks, datamodule: TransferHooks | None) -> Callable[..., Batch] | None:
    """Return the hook ``name`` of the data module or else of the module, if one overrides it."""
    for owner in (datamodule, module):
        if owner is not None and overrides(owner, name, TransferHooks):
            hook: Callable[..., Batch] = getattr(owner, name)
            return hook
    return None


def _returned(batch: Batch, hook: Callable[..., Batch]) -> Batch:
    """Return ``batch``; raise `DataError` if it is None, because ``hook`` has no ``return``."""
    if batch is None:
        raise DataError(f"{getattr(hook, '__qualname__', hook)} returned None; it must return the batch.")
    return batch
