"""`TrainModule`, the base class of what a user trains: the model, its steps and its optimizers."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainkit.batch.nested import map_tensors
from trainkit.batch.transfer import TransferHooks
from trainkit.checks import CLIP_ALGORITHMS, file_path
from trainkit.errors import CheckpointError, MetricError, ModuleError, UnknownNameError
from trainkit.metrics.torchmetrics import is_metric_collection
from trainkit.module.attached import AttachedModule
from trainkit.module.class_only import class_only
from trainkit.module.clip import clip_norm
from trainkit.module.from_checkpoint import (
    call_with,
    constructor_arguments,
    load_weights,
    read_hparams,
    require_weights,
)
from trainkit.module.hparams import HyperparametersMixin
from trainkit.module.joint_optimizer import JointOptimizer, in_order_of
from trainkit.module.optimizers import parameters_of
from trainkit.output import warn
from trainkit.reflection import method_of, overrides

if TYPE_CHECKING:
    pass


class TrainModule(HyperparametersMixin, TransferHooks, AttachedModule):
    """An ``nn.Module`` that also defines how it is trained. Subclass it.

    ``training_step`` and ``configure_optimizers`` are needed to fit, the other steps to evaluate. Every hook
    (``trainkit/hooks/specs.py``) can be added as a method; none is defined here, and one that is not added is never
    called. Loaders may come from methods ``train_dataloader``, ``val_dataloader``, ``test_dataloader`` and
    ``predict_dataloader``.

    Attributes:
        automatic_optimization: Whether the loop does backward, update and ``zero_grad``. Set it to False to do them in
            ``training_step``.
        strict_loading: Whether the weights of a checkpoint must match exactly.
        example_input_array: An input of ``forward`` (a tuple: its arguments), for summaries and exports.
        weighs_losses: Whether a ``"weight"`` in the dict that ``training_step`` returns says that the loss is a sum, by
            what to divide it.
    """

    automatic_optimization: bool = True
    strict_loading: bool = True
    example_input_array: Any = None
    weighs_losses: ClassVar[bool] = True

    _warned_of_log: bool = False

    # Steps and configuration, for the user to define. The steps take anything here, so that type checkers accept an
    # override with the arguments it needs.

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of ``(batch, batch_idx)``, a dict that holds it as ``"loss"``, or None to skip the batch."""
        raise self._lacks("training_step(self, batch, batch_idx)", "fit")

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate ``(batch, batch_idx)``; with several loaders also ``dataloader_idx``."""
        raise self._lacks("validation_step(self, batch, batch_idx)", "validate")

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate ``(batch, batch_idx)``; with several loaders also ``dataloader_idx``."""
        raise self._lacks("test_step(self, batch, batch_idx)", "test")

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """Return the prediction for ``(batch, batch_idx)``; by default that is ``self(batch)``."""
        return self(args[0] if args else kwargs["batch"])

    def configure_optimizers(self) -> Any:
        """Return the optimizers and schedulers, in a shape that ``trainkit/module/optimizers.py`` lists."""
        raise self._lacks("configure_optimizers(self)", "fit")

    def configure_model(self) -> None:
        """Create layers late, right before they are needed. May be called more than once: create only missing ones."""

    def configure_callbacks(self) -> Sequence[Any]:
        """Return callbacks to add for this module. Each replaces those of its type that the Trainer was given."""
        return []

    # What the loop does with an optimizer. Override one to do it differently; docs/explanation/loop.md tells which step
    # of the loop runs then.

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients of ``loss``."""
        loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Optimizer, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Make one update. ``optimizer_closure`` computes loss and gradients, and has to be passed to ``step``."""
        optimizer.step(closure=optimizer_closure)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Clear the gradients, once per update."""
        optimizer.zero_grad()

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step a scheduler; ``metric`` is the value of its ``monitor``, None if it has none."""
        if metric is None:
            scheduler.step()
        else:
            scheduler.step(metric)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients before an update. The values are the Trainer's; by default `clip_gradients` does it."""
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def clip_gradients(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of all parameters of ``optimizer``; for manual optimization and for overrides.

        Args:
            optimizer: The optimizer whose parameters have the gradients.
            gradient_clip_val: The largest norm, or the largest value. None or 0 clips nothing.
            gradient_clip_algorithm: ``"norm"`` (the norm of all gradients together) or ``"value"`` (each entry).
        """
        # 0 means no clipping, as in Lightning. As a limit it would set every gradient to zero.
        if not gradient_clip_val:
            return
        parameters = parameters_of(optimizer)
        if isinstance(optimizer, JointOptimizer):
            # In the order in which a loop by hand clips all of them at once, since sums depend on it.
            parameters = in_order_of(self, parameters)
        match gradient_clip_algorithm or "norm":
            case "norm":
                clip_norm(parameters, gradient_clip_val)
            case "value":
                nn.utils.clip_grad_value_(parameters, gradient_clip_val)
            case unknown:
                raise UnknownNameError("gradient_clip_algorithm", str(unknown), CLIP_ALGORITHMS)

    # Logging

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        enable_graph: bool = False,
        sync_dist: bool | None = None,
        sync_dist_group: Any | None = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Record a value under ``name``. It stays on its device: logging does not wait for an accelerator.

        Args:
            name: Such as ``"train/loss"``.
            value: A number, a tensor with one element, or a torchmetrics ``Metric``.
            prog_bar: Show it in the progress bar.
            logger: Send it to the loggers; None is True.
            on_step: Record the value of this batch. Default: in ``training_step`` and hooks of training batches.
            on_epoch: Record the value reduced over the epoch. Default: everywhere else.
            reduce_fx: How an epoch is reduced, and the row of an update that several batches make:
                ``"mean"`` (weighted by batch size), ``"sum"``, ``"min"``, ``"max"``. In float64, whatever is logged.
            enable_graph: Not supported: recorded values are detached.
            sync_dist: Reduce across ranks. None: epoch values yes, step values no.
            sync_dist_group: Not supported: the ranks of the strategy take part.
            add_dataloader_idx: With several loaders, add ``/dataloader_idx_N`` to the name.
            batch_size: The weight of this batch in these means, if it cannot be told from the batch.
            metric_attribute: Accepted for compatibility; a Metric is recognized without it.
            rank_zero_only: Record it on rank 0 alone. Other ranks need not call.

        Raises:
            MetricError: If an argument that is not supported is given, or the value cannot be recorded.
        """
        log = self._log
        if log is None:
            self._warn_of_log(name)
            return
        if enable_graph or sync_dist_group is not None:
            refused = "enable_graph=True" if enable_graph else "sync_dist_group"
            raise MetricError(f"log({name!r}) does not take {refused}: values are detached, and all ranks take part.")
        # By position, which is the fastest way: this is called at every step.
        log(
            name, value, prog_bar, logger, on_step, on_epoch, reduce_fx,
            sync_dist, add_dataloader_idx, batch_size, rank_zero_only,
        )  # fmt: skip

    def log_dict(
        self,
        dictionary: Mapping[str, Any],
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        enable_graph: bool = False,
        sync_dist: bool | None = None,
        sync_dist_group: Any | None = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Record each value of ``dictionary`` (also a torchmetrics ``MetricCollection``); arguments as in `log`."""
        if not hasattr(dictionary, "items"):
            raise MetricError(f"log_dict() takes a dict of values by name, not a {type(dictionary).__name__}.")
        options = (prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, sync_dist, sync_dist_group)
        # Asked in the usual way, a MetricCollection copies the states of all its metrics at every call.
        as_is: dict[str, Any] = {"keep_base": False, "copy_state": False} if is_metric_collection(dictionary) else {}
        for name, value in dictionary.items(**as_is):
            self.log(name, value, *options, add_dataloader_idx, batch_size, None, rank_zero_only)

    # Manual optimization

    def optimizers(self, use_wrapped: bool = True) -> Any:
        """Return the optimizer, or a list if there is not exactly one.

        Args:
            use_wrapped: Return wrappers, whose ``step()`` goes through precision, hooks and counters. The bare
                optimizers know nothing of the run.
        """
        trainer = self.trainer
        return _single(list(trainer.optimizer_wrappers if use_wrapped else trainer.optimizers))

    def lr_schedulers(self) -> Any:
        """Return the scheduler, a list if there are several, None if there is none."""
        return _single([config.scheduler for config in self.trainer.lr_scheduler_configs]) or None

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients of ``loss`` as the precision demands; in place of ``loss.backward()``."""
        if self.automatic_optimization:
            raise ModuleError(
                "manual_backward() is for manual optimization; with automatic_optimization the loop does it.\n"
                f"    to do        set self.automatic_optimization = False in {type(self).__name__}.__init__"
            )
        self.trainer.manual_backward(loss, *args, **kwargs)

    def toggle_optimizer(self, optimizer: Any) -> None:
        """Let gradients flow only to the parameters of ``optimizer``, until `untoggle_optimizer`."""
        # Otherwise a second call would take what the first has switched off for what the user wants.
        self.untoggle_optimizer()
        parameters = [parameter for other in self.trainer.optimizers for parameter in parameters_of(other)]
        self._untoggled = {parameter: parameter.requires_grad for parameter in parameters}
        # One that several optimizers share stays trainable, since it is among those of ``optimizer``.
        for parameter in set(parameters).difference(parameters_of(optimizer)):
            parameter.requires_grad = False
        self.trainer.strategy.parameters_changed()

    def untoggle_optimizer(self, optimizer: Any = None) -> None:
        """Undo `toggle_optimizer`. Without one before it, this does nothing; ``optimizer`` is not looked at."""
        for parameter, required_grad in (self._untoggled or {}).items():
            parameter.requires_grad = required_grad
        if self._untoggled:
            self._untoggled = None
            self.trainer.strategy.parameters_changed()

    def freeze(self) -> Self:
        """Stop all parameters from being trained, and switch to eval mode. Returns the module."""
        return self.requires_grad_(False).eval()

    def unfreeze(self) -> Self:
        """Let all parameters be trained, and switch to train mode. Returns the module."""
        return self.requires_grad_(True).train()

    def all_gather(self, data: Any, group: Any | None = None, sync_grads: bool = False) -> Any:
        """Return ``data`` (tensors in any nesting) with the tensors of all ranks stacked: ``(world_size, *shape)``.

        With one process, ``data`` itself.
        """
        if group is not None or sync_grads:
            raise ModuleError(
                "all_gather() takes neither group nor sync_grads: all ranks take part, without gradients."
            )
        return map_tensors(self.trainer.strategy.all_gather, data)

    # Where the weights are

    @property
    def device(self) -> torch.device:
        """The device of the parameters; without any, the device of the run, or the CPU."""
        for tensor in self._tensors():
            return tensor.device
        return torch.device("cpu") if self._trainer is None else self._trainer.strategy.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the floating-point parameters and buffers; without any, torch's default dtype."""
        return next((t.dtype for t in self._tensors() if t.is_floating_point()), torch.get_default_dtype())

    # Export, and building a module from a checkpoint

    def to_onnx(
        self,
        file_path: str | os.PathLike[str] | io.BytesIO | None = None,
        input_sample: Any = None,
        **options: Any,
    ) -> Any:
        """Write ``forward`` in ONNX format. For other formats start from ``torch.export.export(module, args)``.

        Args:
            file_path: The file to write; None writes none.
            input_sample: An input of ``forward`` (a tuple: its arguments); by default `example_input_array`.
            options: As for ``torch.onnx.export``.

        Raises:
            ModuleError: If there is no input.
        """
        # Imported here, as few programs export.
        from trainkit.module.onnx import export_onnx

        return export_onnx(self, file_path, input_sample, **options)

    @class_only
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | os.PathLike[str],
        map_location: Any = None,
        hparams_file: str | os.PathLike[str] | None = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **overrides: Any,
    ) -> Self:
        """Build the module from a checkpoint: saved hyperparameters, then weights.

        Args:
            checkpoint_path: The file.
            map_location: The device of the module, as in ``torch.load``; None is the CPU.
            hparams_file: A YAML file of hyperparameters, such as a logger's ``hparams.yaml``; it replaces those saved.
            strict: Whether all names must match; None asks ``strict_loading`` of the module.
            weights_only: Only True: a checkpoint never runs code.
            overrides: Constructor arguments that go before the saved ones.

        Raises:
            CheckpointError: If an argument is missing, or the weights are those of another model.
        """
        from trainkit.storage.files import read_checkpoint
        from trainkit.storage.owners import given_to

        if weights_only is False:
            raise CheckpointError("weights_only=False would run code from the checkpoint; trainkit never does that.")
        file_path(f"{cls.__name__}.load_from_checkpoint", optional=False, checkpoint_path=checkpoint_path)
        checkpoint = read_checkpoint(checkpoint_path, map_location=map_location or "cpu")
        require_weights(checkpoint, checkpoint_path)
        if hparams_file is not None:
            checkpoint |= read_hparams(cls, hparams_file)
        # In the order of a run: late layers have to exist, and the module's own hook may change the state_dict, before
        # weights are loaded.
        arguments = constructor_arguments(cls, checkpoint, overrides)
        with given_to(cls, "hyper_parameters", os.fspath(checkpoint_path)):
            module = cls(**arguments)
            method_of(module, "configure_model", TrainModule)()
        with given_to(cls, "the whole", os.fspath(checkpoint_path)):
            module._call_on_load_checkpoint(checkpoint)
        weights = checkpoint["state_dict"]
        strict = module.strict_loading if strict is None else strict
        load_weights(module, weights, strict=strict, source=checkpoint_path)
        # Loading copies into the tensors of the module, which are on the CPU. ``map_location`` may be any form that
        # torch.load takes, so the weights themselves are asked where it has put them.
        tensor = next((value for value in weights.values() if isinstance(value, Tensor)), None)
        return module if tensor is None else module.to(tensor.device)

    # For the Trainer

    def overrides(self, name: str) -> bool:
        """Return whether the user's class has its own version of the method ``name``."""
        return overrides(self, name, TrainModule)

    def _call_on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Call the module's own ``on_load_checkpoint``, which in a run the Trainer does."""
        on_load = getattr(self, "on_load_checkpoint", None)
        if on_load is not None:
            call_with(on_load, trainer=None, module=self, checkpoint=checkpoint)

    def _lacks(self, method: str, entry_point: str) -> ModuleError:
        """Return the error for a method that ``entry_point`` needs and the user's class does not define."""
        return ModuleError(f"{type(self).__name__} does not define {method}, which trainer.{entry_point}() needs.")

    def _warn_of_log(self, name: str) -> None:
        if not self._warned_of_log:
            self._warned_of_log = True
            warn(f"log({name!r}) outside a run records nothing; further calls are silent.", innermost=True)

    def _tensors(self) -> Iterator[Tensor]:
        """Yield parameters and buffers, those of a replica of ``nn.DataParallel`` too."""
        for module in self.modules():
            # Of a replica torch's nn.DataParallel keeps the parameters, which are no leaves, in _former_parameters.
            replicated = vars(module).get("_former_parameters", {})
            for tensor in chain(module._parameters.values(), module._buffers.values(), replicated.values()):
                if tensor is not None:
                    yield tensor


def _single(items: list[Any]) -> Any:
    """Return the only item of a list, or the list if there is not exactly one."""
    return items[0] if len(items) == 1 else items
