"""Callbacks that freeze layers before training and unfreeze them at the start of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NotRequired, TypedDict

from torch import nn
from torch.optim import Optimizer

import trainkit.callbacks.finetuning.freezing as freezing
from trainkit.checks import flags, function, number, takes_numpy, whole
from trainkit.errors import ModuleError, StateError
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage
from trainkit.module.weight_names import translated
from trainkit.output import say
from trainkit.storage.schema import Scalar, takes

if TYPE_CHECKING:
    from trainkit.module import TrainModule
    from trainkit.trainer import Trainer


class _Trained(TypedDict):
    """What is trained, by names of parameters and modules."""

    trained: list[str]
    fixed_statistics: list[str]
    groups: list[list[list[str]]]


class _State(TypedDict):
    """What is trained; nothing before the first epoch."""

    finetuning: NotRequired[_Trained | None]


class _BackboneState(_State):
    """What is trained, and how fast the backbone learns."""

    previous_backbone_lr: Scalar | None


class BaseFinetuning(Callback):
    """Freezes layers before training and unfreezes them at the start of an epoch; a subclass says which and when.

    A subclass defines ``freeze_before_training(module)``, which may call `freeze`, and
    ``finetune_function(module, epoch, optimizer)``, called at the start of every epoch for every optimizer, which may
    call `unfreeze_and_add_param_group`. A resumed run has the parameter groups and frozen layers of its checkpoint.
    """

    stage: ClassVar[PluginStage] = "modify"

    # Methods as in Lightning, where subclasses call them as self.freeze(...).
    flatten_modules = staticmethod(freezing.flatten_modules)
    filter_params = staticmethod(freezing.filter_params)
    make_trainable = staticmethod(freezing.make_trainable)
    freeze_module = staticmethod(freezing.freeze_module)
    freeze = staticmethod(freezing.freeze)
    filter_on_optimizer = staticmethod(freezing.filter_on_optimizer)
    unfreeze_and_add_param_group = staticmethod(freezing.unfreeze_and_add_param_group)

    _trainer: Trainer | None = None
    _state: dict[str, Any] | None = None

    def freeze_before_training(self, module: TrainModule) -> None:
        """Freeze what is not to be trained at first."""
        raise self._lacks("freeze_before_training(self, module)")

    def finetune_function(self, module: TrainModule, epoch: int, optimizer: Optimizer) -> None:
        """Unfreeze what is to be trained from ``epoch`` on."""
        raise self._lacks("finetune_function(self, module, epoch, optimizer)")

    def setup(self, trainer: Trainer, module: TrainModule) -> None:
        self._trainer = trainer  # for load_state_dict, which gets no trainer
        # Ahead of configure_optimizers, which may leave out what is frozen.
        self.freeze_before_training(module)

    def on_train_epoch_start(self, trainer: Trainer, module: TrainModule) -> None:
        for optimizer in trainer.optimizers:
            self.finetune_function(module, trainer.current_epoch, optimizer)
        self._state = _describe(module, trainer.optimizers)

    def teardown(self) -> None:
        self._trainer = None

    def state_dict(self) -> dict[str, Any]:
        """Return the names of the parameters that are trained, and those in each group of each optimizer."""
        return {} if self._state is None else {"finetuning": self._state}

    @takes(_State)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned: flags of modules and parameters, and parameter groups of optimizers.

        Called before the states of the optimizers are restored, which need as many groups as were saved and contain
        their learning rates.
        """
        self._state = state.get("finetuning")
        # It is None in a checkpoint from before the first epoch. A callback that was not set up has no Trainer.
        if self._state is None or self._trainer is None or self._trainer.module is None:
            return
        parameters = dict(self._trainer.module.named_parameters())
        # Of a module that was compiled, or is now, the names are others.
        trained = [name for groups in self._state["groups"] for group in groups for name in group]
        own_names = translated([*trained, *self._state["trained"]], parameters)
        unknown = {own_names.get(name, name) for name in trained} - parameters.keys()
        if unknown or len(self._state["groups"]) != len(self._trainer.optimizers):
            raise StateError(
                f"finetuning.groups has those of {len(self._state['groups'])} optimizers, and of parameters that are "
                f"not there: {', '.join(map(repr, sorted(unknown))) or 'none'}"
            )
        still_trained = {own_names.get(name, name) for name in self._state["trained"]}
        for name, parameter in parameters.items():
            parameter.requires_grad = name in still_trained
        for name, child in self._trainer.module.named_modules():
            if hasattr(child, "track_running_stats"):
                # Freezing a BatchNorm layer switches this off, and it is in no state_dict.
                child.track_running_stats = name not in self._state["fixed_statistics"]
        for optimizer, groups in zip(self._trainer.optimizers, self._state["groups"], strict=True):
            # The first groups are those of configure_optimizers; the others were added by `finetune_function`.
            for names in groups[len(optimizer.param_groups) :]:
                params = [parameters[own_names.get(name, name)] for name in names]
                try:
                    optimizer.add_param_group({"params": params})
                except ValueError as error:  # one parameter twice
                    raise StateError(f"finetuning.groups: {error}") from error

    def _lacks(self, method: str) -> ModuleError:
        return ModuleError(f"{type(self).__name__} does not define {method}, which every finetuning needs.")


class BackboneFinetuning(BaseFinetuning):
    """Freezes ``module.backbone`` at first, and trains it from an epoch on with a learning rate that grows.

    Args:
        unfreeze_backbone_at_epoch: The first epoch in which the backbone is trained.
        lambda_func: Returns for an epoch the factor by which the backbone's learning rate grows at its start.
        backbone_initial_ratio_lr: The backbone's first learning rate, as a share of the first group's.
        backbone_initial_lr: The backbone's first learning rate itself; takes the place of the share.
        should_align: Whether the backbone's learning rate is limited to that of the first group.
        initial_denom_lr: Accepted for compatibility, and not used.
        train_bn: Whether BatchNorm layers of the backbone are trained with it.
        verbose: Whether to print learning rates.
        rounding: The digits after the point in what is printed.
    """

    @takes_numpy
    def __init__(
        self,
        unfreeze_backbone_at_epoch: int = 10,
        lambda_func: Callable[[int], float] = lambda epoch: 2.0,
        backbone_initial_ratio_lr: float = 0.1,
        backbone_initial_lr: float | None = None,
        should_align: bool = True,
        initial_denom_lr: float = 10.0,
        train_bn: bool = True,
        verbose: bool = False,
        rounding: int = 12,
    ) -> None:
        where = "BackboneFinetuning"
        whole("unfreeze_backbone_at_epoch", unfreeze_backbone_at_epoch, where=where)
        function(where, lambda_func=lambda_func)
        number("backbone_initial_ratio_lr", backbone_initial_ratio_lr, at_least=0, finite=True, where=where)
        number("backbone_initial_lr", backbone_initial_lr, at_least=0, finite=True, optional=True, where=where)
        number("initial_denom_lr", initial_denom_lr, where=where)
        whole("rounding", rounding, where=where)
        flags(where, should_align=should_align, train_bn=train_bn, verbose=verbose)
        self.unfreeze_backbone_at_epoch = unfreeze_backbone_at_epoch
        self.lambda_func = lambda_func
        self.backbone_initial_ratio_lr = backbone_initial_ratio_lr
        self.backbone_initial_lr = backbone_initial_lr
        self.should_align = should_align
        self.initial_denom_lr = initial_denom_lr
        self.train_bn = train_bn
        self.verbose = verbose
        self.rounding = rounding
        self.previous_backbone_lr: float | None = None

    def freeze_before_training(self, module: TrainModule) -> None:
        self.freeze(self._backbone(module))

    def finetune_function(self, module: TrainModule, epoch: int, optimizer: Optimizer) -> None:
        rate = optimizer.param_groups[0]["lr"]
        if epoch == self.unfreeze_backbone_at_epoch:
            share = rate * self.backbone_initial_ratio_lr
            own = share if self.backbone_initial_lr is None else self.backbone_initial_lr
            self.unfreeze_and_add_param_group(self._backbone(module), optimizer, own, train_bn=self.train_bn)
        # The backbone's group was added last. None: it was not added, as training began behind that epoch.
        elif epoch > self.unfreeze_backbone_at_epoch and self.previous_backbone_lr is not None:
            # epoch + 1 as in Lightning.
            own = self.lambda_func(epoch + 1) * self.previous_backbone_lr
            own = min(own, rate) if self.should_align else own
            optimizer.param_groups[-1]["lr"] = own
        else:
            return
        self.previous_backbone_lr = own
        if self.verbose:
            say(f"BackboneFinetuning: lr {round(rate, self.rounding)}, backbone {round(own, self.rounding)}")

    def state_dict(self) -> dict[str, Any]:
        """Return the state of `BaseFinetuning`, and the backbone's learning rate."""
        return super().state_dict() | {"previous_backbone_lr": self.previous_backbone_lr}

    @takes(_BackboneState)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.previous_backbone_lr = state["previous_backbone_lr"]

    def _backbone(self, module: TrainModule) -> nn.Module:
        backbone = getattr(module, "backbone", None)
        if not isinstance(backbone, nn.Module):
            raise ModuleError(
                f"BackboneFinetuning: {type(module).__name__} has no attribute 'backbone' that is an nn.Module."
            )
        return backbone


def _describe(module: TrainModule, optimizers: list[Optimizer]) -> dict[str, Any]:
    # By name, because a resumed process has other parameter objects. Tensors compare by value, hence their ids.
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        "trained": [name for name, parameter in module.named_parameters() if parameter.requires_grad],
        "fixed_statistics": [
            name for name, child in module.named_modules() if getattr(child, "track_running_stats", None) is False
        ],
        "groups": [[[names[id(p)] for p in group["params"]] for group in one.param_groups] for one in optimizers],
    }
