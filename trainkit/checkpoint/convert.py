"""Converting a checkpoint that needs a pickle into one that loads safely.

Nothing else in trainkit runs code from a file.
"""

from __future__ import annotations

from typing import Any

import torch

from trainkit.checkpoint.migrate import migrate
from trainkit.checks import file_path
from trainkit.data.module import DataModule
from trainkit.errors import CheckpointError
from trainkit.module import TrainModule
from trainkit.module.from_checkpoint import require_weights
from trainkit.module.hparam_types import joined
from trainkit.module.hparams import HYPER_PARAMETERS, LEFT_OUT, TYPES, describe_types, hparams_prefix, storable
from trainkit.storage.files import refuse_same_file, verify, write_checkpoint
from trainkit.storage.layout import check_layout
from trainkit.storage.remote import FilePath
from trainkit.storage.storable import find_unstorable


def convert_checkpoint(old: FilePath, new: FilePath) -> list[str]:
    """Unpickle ``old``, **which runs whatever code is in it**, and write what is safe of it to ``new``.

    Args:
        old: A checkpoint of Lightning or trainkit, from someone whom you would let run a program on your machine.
        new: Where to write; what is there is replaced.

    Returns:
        The places of what was left out because it cannot be loaded safely: hyperparameters, which are to be passed to
        ``load_from_checkpoint`` again, states of callbacks, and whatever else was put in.

    Raises:
        CheckpointNotFoundError: If there is no file ``old``.
        CheckpointError: If it cannot be unpickled here, or holds no weights, or ``new`` is that file too.
        CheckpointWriteError: If ``new`` cannot be written.
    """
    file_path("convert_checkpoint", optional=False, old=old, new=new)
    # First, so that damage is not taken for a missing package.
    verify(old)
    refuse_same_file(old, new)
    try:
        loaded = torch.load(old, map_location="cpu", weights_only=False)
    # The classes in a pickle may be missing, or fail in any way.
    except Exception as error:
        raise CheckpointError(
            f"{old} cannot be unpickled: {type(error).__name__}: {error}\n"
            "    to do        install the packages that it was saved with, in the same versions"
        ) from error
    require_weights(loaded, old)
    checkpoint = migrate(dict(loaded), old)
    # A mapping of another class could not be stored, and all weights would be left out with it.
    checkpoint["state_dict"] = dict(checkpoint["state_dict"])
    # Hyperparameters first: some that are not storable as they are, such as a Namespace, can be converted. Then single
    # callbacks, so that one bad state does not take the others along, and at last whole entries.
    left_out = [
        place for cls in (TrainModule, DataModule) for place in _store_hyperparameters(checkpoint, hparams_prefix(cls))
    ]
    for container, where in ((checkpoint.get("callbacks", {}), "callbacks"), (checkpoint, "")):
        left_out += _drop_unstorable(container, where)
    check_layout(checkpoint)
    write_checkpoint(checkpoint, new)
    return left_out


def _store_hyperparameters(checkpoint: dict[str, Any], prefix: str) -> list[str]:
    """Convert the hyperparameters; remove those that cannot be stored, and return their places.

    Args:
        checkpoint: The checkpoint.
        prefix: Before the keys: that of the module's, or that of the data module's.
    """
    key, own = f"{prefix}{HYPER_PARAMETERS}", checkpoint.setdefault("trainkit", {})
    if key not in checkpoint:
        return []
    given = checkpoint[key]
    checkpoint[key], names = storable(given)
    # What trainkit has written says of which types it was, and not so what was pickled beside that.
    noted, found = own.get(f"{prefix}{TYPES}", {"type": "AttributeDict"}), describe_types(given, checkpoint[key])
    own[f"{prefix}{TYPES}"] = joined(noted, {"items": found})
    if names:  # load_from_checkpoint then asks for them by name
        own[f"{prefix}{LEFT_OUT}"] = [*own.get(f"{prefix}{LEFT_OUT}", ()), *names]
    return [f"{key}.{name}" for name in names]


def _drop_unstorable(container: dict[Any, Any], where: str) -> list[str]:
    """Remove the entries of ``container`` that cannot be loaded safely; return their places."""
    wrong = [key for key, value in container.items() if find_unstorable(key) or find_unstorable(value)]
    for key in wrong:
        del container[key]
    return [f"{where}.{key}" if where else str(key) for key in wrong]
