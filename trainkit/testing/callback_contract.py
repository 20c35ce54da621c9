"""Checks of what a plugin must keep. trainkit's own plugins pass them; authors of others call them in their tests."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch

from trainkit.hooks.manager import HookManager
from trainkit.testing.compare import assert_same_state
from trainkit.testing.tiny import TinyData, TinyModule, quiet_trainer


def check_callback(make: Callable[[], Any], **trainer_arguments: Any) -> None:
    """Check that a callback keeps the promises of all callbacks.

    Its hooks can be bound, it can be registered and removed again, two that are made with the same arguments have the
    same state key, fit, validate, test and predict run with it on a `TinyModule` (which logs ``train/loss``,
    ``val/loss`` and ``test/loss``), and its state can be saved, loaded with ``weights_only=True``, and restored into a
    fresh callback.

    Args:
        make: Returns a new callback at each call, always with the same arguments.
        trainer_arguments: Arguments of `Trainer` that the callback needs, such as ``default_root_dir``.

    Raises:
        AssertionError: If a promise is broken; says which. Errors of the callback itself are raised as they are.
    """
    _check_registration(make)
    callback = make()
    _check_run(callback, trainer_arguments)
    _check_state(callback, make())


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


def _check_run(callback: Any, trainer_arguments: dict[str, Any]) -> None:
    # Two epochs, a sanity check and a short last batch: the cases that a callback tends to forget.
    trainer = quiet_trainer(**({"max_epochs": 2, "num_sanity_val_steps": 1} | trainer_arguments), callbacks=[callback])
    module, data = TinyModule(), TinyData(num_batches=3, last_batch_size=1)
    trainer.fit(module, data, data)
    trainer.validate(module, data)
    trainer.test(module, data)
    trainer.predict(module, data)


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
