"""Optimizers that train at other values than those which are to be used, such as the schedule-free ones.

By the convention of the package ``schedulefree`` such an optimizer has two methods: ``eval()`` gives its parameters the
values for evaluation, and ``train()`` those at which gradients are computed. Each changes nothing where it holds
already, and without a state it only notes the mode: in each parameter group, or in the optimizer, as ``train_mode``.
What comes back is rounded, so that a run which is to continue exactly needs both values.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.optim import Optimizer

from trainkit.errors import note_on

Weights = dict[str, Any]


def has_modes(optimizer: Any) -> bool:
    """Return whether an optimizer has to be told what its parameters are about to be used for."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


class OptimizerModes:
    """The modes of the optimizers of a fit, switched as in a loop by hand. Optimizers without modes are left alone.

    ==========================  ========================================================================
    when                        mode
    ==========================  ========================================================================
    a validation begins         eval, which stays until the next batch: what is saved was validated
    training goes on            train
    the fit ends                eval; with what training would go on is put aside
    a state is saved            unchanged: the weights of the other mode are copied, if they are needed
    ==========================  ========================================================================

    Args:
        optimizers: Those of the fit.
    """

    def __init__(self, optimizers: Sequence[Optimizer] = ()) -> None:
        self._optimizers: list[Any] = [each for each in optimizers if has_modes(each)]
        self._is_eval = False
        self._trained: list[Tensor] = []  # what `end` has put aside

    def __bool__(self) -> bool:
        return bool(self._optimizers)

    @property
    def is_eval(self) -> bool:
        """Whether parameters have their values for evaluation, and others for training."""
        if not self._has_two_values():
            return False
        # The user may switch too.
        noted = [mode for each in self._optimizers for mode in _noted(each)]
        # A group that is added while others train is not in train mode yet, and is trained like them.
        return not any(noted) if noted else self._is_eval

    def train(self) -> None:
        """Go on with training."""
        if self._optimizers:
            self._switch("train")

    def eval(self) -> None:
        """Begin an evaluation."""
        if self._optimizers:
            self._switch("eval")

    def end(self) -> None:
        """Leave the values for evaluation, in which the module is to be used, and put aside those of training."""
        if self._optimizers and not self.is_eval:
            self._trained = self._values()
            self._switch("eval")

    def expect(self, *, is_eval: bool) -> None:
        """Take the mode of the states that are about to be loaded; the weights have it already."""
        self._is_eval = is_eval
        for optimizer in self._optimizers:
            # Those that note it in their groups get it with these. What has no state yet changes no weights.
            if not _groups_that_note(optimizer):
                mode = "eval" if is_eval else "train"
                try:
                    getattr(optimizer, mode)()
                except Exception as error:
                    name = type(optimizer).__name__
                    note_on(error, f"{name}.{mode}() is called ahead of load_state_dict, and must do without a state.")
                    raise

    def put_back(self, *, is_eval: bool) -> None:
        """Undo what somebody else has switched meanwhile."""
        if self._optimizers and self.is_eval is not is_eval:
            self._switch("eval" if is_eval else "train")

    def weights(self, read_weights: Callable[[], Weights]) -> Weights:
        """Return the weights for evaluation, as ``read_weights`` gives those that the module has."""
        if not self._has_two_values() or self.is_eval:
            return read_weights()
        with self._for_now("eval"):
            return copy.deepcopy(read_weights())  # it gives the memory of the parameters, which change back

    def training_state(
        self, read_weights: Callable[[], Weights], read_states: Callable[[], list[Any]]
    ) -> tuple[Weights | None, list[Any]]:
        """Return with what training goes on.

        Args:
            read_weights: Gives the weights that the module has.
            read_states: Gives the states of all optimizers.

        Returns:
            The weights, None if they are those for evaluation; and the states that belong to them.
        """
        if self._trained and self.is_eval:
            with self._for_now("train", self._trained):
                return copy.deepcopy((read_weights(), read_states()))
        self._join_new_groups()
        return (read_weights() if self._has_two_values() and not self.is_eval else None), read_states()

    def _has_two_values(self) -> bool:
        # Ahead of the first update both modes have the same, and some optimizers cannot be evaluated yet.
        return any(each.state for each in self._optimizers)

    @contextmanager
    def _for_now(self, mode: Literal["train", "eval"], values: Sequence[Tensor] = ()) -> Iterator[None]:
        before: Literal["train", "eval"] = "eval" if self.is_eval else "train"
        kept = self._values()
        # To autograd, which may be between forward and backward, nothing has changed.
        with _unsafe_preserve_version_counter(tuple(self._parameters())):
            self._switch(mode, values)
            try:
                yield
            finally:
                self._switch(before, kept)

    @torch.no_grad()
    def _switch(self, mode: Literal["train", "eval"], values: Sequence[Tensor] = ()) -> None:
        self._join_new_groups()
        for optimizer in self._optimizers:
            if mode == "train" or optimizer.state:
                getattr(optimizer, mode)()
        self._is_eval = mode == "eval"
        for parameter, value in zip(self._parameters() if values else (), values, strict=True):
            parameter.copy_(value)

    def _join_new_groups(self) -> None:
        """Have groups train that were added while others did: their weights are those of training already."""
        for optimizer in self._optimizers:
            groups = _groups_that_note(optimizer)
            if any(group["train_mode"] for group in groups):
                for group in groups:
                    group["train_mode"] = True

    def _values(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self._parameters()]

    def _parameters(self) -> list[Tensor]:
        return [each for optimizer in self._optimizers for group in optimizer.param_groups for each in group["params"]]


def _noted(optimizer: Any) -> list[bool]:
    """Return whether an optimizer trains, for each group if it notes that there; empty if it notes it nowhere."""
    groups = [bool(group["train_mode"]) for group in _groups_that_note(optimizer)]
    own = getattr(optimizer, "train_mode", None)
    return groups or ([own] if isinstance(own, bool) else [])


def _groups_that_note(optimizer: Any) -> list[dict[str, Any]]:
    return [group for group in optimizer.param_groups if "train_mode" in group]
