"""Checks of what a plugin must keep. trainkit's own plugins pass them; authors of others call them in their tests."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainkit.hooks.manager import HookManager
from trainkit.testing.compare import assert_same_state
from trainkit.testing.ranks import run_on_ranks
from trainkit.testing.tiny import TinyData, TinyModule, quiet_trainer
from trainkit.trainer import Trainer


def check_callback(make: Callable[[], Any], *, ranks: int = 1, **trainer_arguments: Any) -> None:
    """Check that a callback keeps the promises of all callbacks.

    Its hooks can be bound, it can be registered and removed again, two that are made with the same arguments have the
    same state key, fit, validate, test and predict run with it on a `TinyModule` (which logs ``train/loss``,
    ``val/loss`` and ``test/loss``), and its state can be saved, loaded with ``weights_only=True``, and restored into a
    fresh callback.

    Args:
        make: Returns a new callback at each call, always with the same arguments. With several ranks it has to be at
            the top of a module, as the class itself is.
        ranks: With more than one, all of that is tried on so many ranks too, and a run there is continued. That takes
            some seconds; see `run_on_ranks`.
        trainer_arguments: Arguments of `Trainer` that the callback needs, such as ``default_root_dir``.

    Raises:
        AssertionError: If a promise is broken; says which. Errors of the callback itself are raised as they are.
    """
    _check_registration(make)
    callback = make()
    _check_run(callback, trainer_arguments)
    _check_state(callback, make())
    if ranks > 1:
        with tempfile.TemporaryDirectory() as folder:
            run_on_ranks(_check_on_rank, make, trainer_arguments, Path(folder) / "half.ckpt", ranks=ranks)


def _check_registration(make: Callable[[], Any]) -> None:
    callback, twin = make(), make()
    assert callback is not twin, "make() must return a new callback at each call"
    manager = HookManager()
    name = manager.register(callback)
    assert manager.is_registered(callback), f"{name} is not registered after register()"
    manager.unregister(callback)
    assert manager.plugins == [], f"unregister() leaves {manager.plugins} behind"
    key, twin_key = (getattr(one, "state_key", None) for one in (callback, twin))
    assert key is None or isinstance(key, str), f"state_key is {key!r}, not a string"
    assert key == twin_key, f"two callbacks made alike have different state keys: {key!r} and {twin_key!r}"


def _check_run(callback: Any, trainer_arguments: dict[str, Any]) -> Trainer:
    # Two epochs, a sanity check and a short last batch: the cases that a callback tends to forget.
    trainer = quiet_trainer(**({"max_epochs": 2, "num_sanity_val_steps": 1} | trainer_arguments), callbacks=[callback])
    module, data = TinyModule(), TinyData(num_batches=3, last_batch_size=1)
    trainer.fit(module, data, data)
    trainer.validate(module, data)
    trainer.test(module, data)
    trainer.predict(module, data)
    return trainer


def _check_state(callback: Any, fresh: Any) -> None:
    assert hasattr(callback, "state_dict") == hasattr(callback, "load_state_dict"), (
        f"{type(callback).__qualname__} has one of state_dict and load_state_dict; it needs both or neither"
    )
    if not hasattr(callback, "state_dict"):
        return
    # Through a real file format, since what a checkpoint can hold is what loads without running code.
    state = callback.state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert_same_state(fresh.state_dict(), state, where=f"{type(callback).__qualname__}.state_dict()")


def _check_on_rank(make: Callable[[], Any], trainer_arguments: dict[str, Any], path: Path) -> None:
    # Lists are not dealt to ranks, and have not to be here.
    arguments = {"use_distributed_sampler": False} | trainer_arguments
    # Where hooks have ranks wait for each other, all of them have to come, or this does not end.
    _check_run(make(), arguments).save_checkpoint(path)
    data = TinyData(num_batches=3, last_batch_size=1)
    again = quiet_trainer(**(arguments | {"max_epochs": 3}), callbacks=[make()])
    again.fit(TinyModule(), data, data, ckpt_path=path)
