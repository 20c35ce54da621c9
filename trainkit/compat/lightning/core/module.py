"""`LightningModule`: a `TrainModule` whose methods are called as Lightning calls them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Never, Self

from trainkit.compat.lightning.binding import adapt
from trainkit.compat.lightning.core.hooks import CheckpointHooks, DataHooks, ModelHooks
from trainkit.errors import ModuleError, UnsupportedAttributeError
from trainkit.hooks.specs import HOOKS
from trainkit.module import TrainModule
from trainkit.module.attached import MetricSink
from trainkit.module.class_only import class_only
from trainkit.trainer import Trainer

_REMOVED = ("training_epoch_end", "validation_epoch_end", "test_epoch_end")


class LightningModule(ModelHooks, CheckpointHooks, DataHooks, TrainModule):
    """A `TrainModule` with Lightning's names.

    A hook is called by the names of its arguments, or with all of them by position (``binding.py``).
    """

    # In Lightning the keys beside "loss" are the user's own, and "weight" may be anything.
    weighs_losses = False

    def adapt_hook(self, hook: str, function: Callable[..., Any]) -> Callable[..., Any] | None:
        """Return ``function`` as one that names arguments of ``hook``; Lightning passes no trainer and no module."""
        return adapt(self, hook, function, HOOKS[hook][2:])

    @property
    def trainer(self) -> Trainer:
        """The Trainer that runs this module, or ran it last; may be set, as tests of modules do."""
        return super().trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        self._trainer = trainer

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """Return the optimizer, or a list if there is not exactly one; see `TrainModule.optimizers`."""
        return super().optimizers(use_pl_optimizer)

    @contextmanager
    def toggled_optimizer(self, optimizer: Any) -> Iterator[None]:
        """Let gradients flow only to the parameters of ``optimizer`` inside."""
        self.toggle_optimizer(optimizer)
        try:
            yield
        finally:
            self.untoggle_optimizer(optimizer)

    def configure_sharded_model(self) -> None:
        """Lightning's former name of ``configure_model``."""

    def configure_model(self) -> None:
        """Create layers late, right before they are needed."""
        self.configure_sharded_model()

    @class_only
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | os.PathLike[str],
        map_location: Any = None,
        hparams_file: str | os.PathLike[str] | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Build the module from a checkpoint, of trainkit or of Lightning; see `TrainModule.load_from_checkpoint`.

        ``weights_only=False`` allows what trainkit never does, so it changes nothing.
        """
        return super().load_from_checkpoint(checkpoint_path, map_location, hparams_file, strict, **kwargs)

    @property
    def device_mesh(self) -> Any:
        """The mesh of ranks of the strategy; None with one that has none."""
        return getattr(self.trainer.strategy, "device_mesh", None)

    @property
    def on_gpu(self) -> bool:
        """Whether the parameters are on a CUDA device."""
        return self.device.type == "cuda"

    def to_torchscript(self, *args: Any, **kwargs: Any) -> Never:
        """Raise: torch has deprecated TorchScript."""
        raise UnsupportedAttributeError("LightningModule.to_torchscript", "module.to_onnx(...) or torch.export.export")

    def to_tensorrt(self, *args: Any, **kwargs: Any) -> Never:
        """Raise: this needs a package of its own."""
        raise UnsupportedAttributeError("LightningModule.to_tensorrt", "torch_tensorrt.compile(module, ...)")

    def _attach(self, trainer: Trainer, metrics: MetricSink) -> Callable[[], None]:
        for name in _REMOVED:
            if callable(getattr(self, name, None)):
                hook = f"on_{name.replace('training', 'train')}"
                raise ModuleError(
                    f"{type(self).__name__}.{name} is never called: Lightning removed it in 2.0.\n"
                    f"    to do        keep the outputs of the steps in a list, and use {hook}"
                )
        return super()._attach(trainer, metrics)

    def _call_on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.on_load_checkpoint(checkpoint)
