"""Optimizers that train at other values than those which are to be used, such as the schedule-free ones.

By the convention of the package ``schedulefree`` such an optimizer has two methods: ``eval()`` gives its parameters the
values for evaluation, and ``train()`` those at which gradients are computed. Each changes nothing where it holds
already. What comes back is rounded, so that a run which is to continue exactly needs both values.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

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
        """Whether parameters have their values for evaluation."""
        # The user may switch too.
        noted = _noted(self._optimizers)
        return not all(noted) if noted else self._is_eval

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
            if not _noted([optimizer]):
                (optimizer.eval if is_eval else optimizer.train)()

    def weights(self, read: Callable[[], Weights]) -> Weights:
        """Return the weights for evaluation, as ``read`` gives those that the module has."""
        if not self._optimizers or self.is_eval:
            return read()
        with self._for_now("eval"):
            return copy.deepcopy(read())  # it gives the memory of the parameters, which change back

    def training_state(
        self, read: Callable[[], Weights], states: Callable[[], list[Any]]
    ) -> tuple[Weights | None, list[Any]]:
        """Return with what training goes on.

        Args:
            read: Gives the weights that the module has.
            states: Gives the states of all optimizers.

        Returns:
            The weights, None if they are those for evaluation; and the states that belong to them.
        """
        if self._trained and self.is_eval:
            with self._for_now("train", self._trained):
                return copy.deepcopy((read(), states()))
        return (read() if self._optimizers and not self.is_eval else None), states()

    @contextmanager
    def _for_now(self, mode: Literal["train", "eval"], values: Sequence[Tensor] = ()) -> Iterator[None]:
        before: Literal["train", "eval"] = "eval" if self.is_eval else "train"
        kept = self._values()
        self._switch(mode, values)
        try:
            yield
        finally:
            self._switch(before, kept)

    @torch.no_grad()
    def _switch(self, mode: Literal["train", "eval"], values: Sequence[Tensor] = ()) -> None:
        for optimizer in self._optimizers:
            # Ahead of the first update both modes have the same values, and some cannot be evaluated yet.
            if mode == "train" or optimizer.state:
                getattr(optimizer, mode)()
        self._is_eval = mode == "eval"
        for parameter, value in zip(self._parameters() if values else (), values, strict=True):
            parameter.copy_(value)

    def _values(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self._parameters()]

    def _parameters(self) -> list[Tensor]:
        return [each for optimizer in self._optimizers for group in optimizer.param_groups for each in group["params"]]


def _noted(optimizers: Sequence[Any]) -> list[bool]:
    """Return for each group whether it is trained, where that is noted as in the packages that there are."""
    groups = [group for each in optimizers for group in each.param_groups]
    return [group["train_mode"] for group in groups if "train_mode" in group]
