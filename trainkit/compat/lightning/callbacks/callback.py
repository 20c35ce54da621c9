"""`Callback`: the base of callbacks that were written for Lightning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainkit.compat.lightning.binding import adapt, stub
from trainkit.errors import NotAttachedError
from trainkit.hooks.callback import Callback as CoreCallback
from trainkit.hooks.specs import HOOKS

if TYPE_CHECKING:
    from trainkit.module import TrainModule
    from trainkit.trainer import Trainer


class _OfSuper:
    """A method that only ``super()`` finds: a callback that does not define it has none, and so no state."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: object | None, owner: type) -> Callable[..., dict[str, Any]]:
        defined = next(cls for cls in owner.__mro__ if self._name in vars(cls))
        if defined is self._owner:
            raise AttributeError(f"{owner.__name__!r} object has no attribute {self._name!r}")
        return lambda *args, **kwargs: {}


class Callback(CoreCallback):
    """A callback whose hooks are called by the names of their arguments, or with all of them by position.

    ``super().on_train_start(trainer, pl_module)`` may be called in every hook and does nothing. What is not overridden
    is never called.
    """

    _trainer: Trainer | None = None

    setup = teardown = on_exception = on_save_checkpoint = on_load_checkpoint = stub
    on_fit_start = on_fit_end = on_sanity_check_start = on_sanity_check_end = stub
    on_train_start = on_train_end = on_train_epoch_start = on_train_epoch_end = stub
    on_validation_start = on_validation_end = on_validation_epoch_start = on_validation_epoch_end = stub
    on_test_start = on_test_end = on_test_epoch_start = on_test_epoch_end = stub
    on_predict_start = on_predict_end = on_predict_epoch_start = on_predict_epoch_end = stub
    on_train_batch_start = on_train_batch_end = on_validation_batch_start = on_validation_batch_end = stub
    on_test_batch_start = on_test_batch_end = on_predict_batch_start = on_predict_batch_end = stub
    on_before_zero_grad = on_before_backward = on_after_backward = on_before_optimizer_step = stub

    state_dict: Any = _OfSuper()
    load_state_dict: Any = _OfSuper()

    def adapt_hook(self, hook: str, function: Callable[..., Any]) -> Callable[..., Any] | None:
        """Return ``function`` as one that names the arguments of ``hook``."""
        return adapt(self, hook, function, HOOKS[hook])

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Record a value, as the module's ``log`` does."""
        self._module().log(*args, **kwargs)

    def log_dict(self, *args: Any, **kwargs: Any) -> None:
        """Record several values, as the module's ``log_dict`` does."""
        self._module().log_dict(*args, **kwargs)

    def _module(self) -> TrainModule:
        if self._trainer is None or self._trainer.module is None:
            raise NotAttachedError(
                f"{type(self).__name__} is in no run of a Trainer of this package, so it cannot log."
            )
        return self._trainer.module

    def _generate_state_key(self, **kwargs: Any) -> str:
        return self._state_key(**kwargs)
