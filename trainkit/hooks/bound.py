"""`BoundHooks`: every hook as a function, which is what the loops call."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from trainkit.hooks.specs import HOOKS, STEP_HOOKS

if TYPE_CHECKING:  # only named in annotations: the bus itself needs no torch
    import torch
    from torch import Tensor

    from trainkit.types import Batch, Stage, StepOutput

P = ParamSpec("P")
R = TypeVar("R")


class NoOp(tuple[()]):
    """The function of a hook that no plugin joins: it takes anything and returns no results, and it is false."""

    __slots__ = ()

    # A call returns the object itself, which is an empty tuple: no result has to be made.
    def __call__(self, *values: Any) -> Any:
        return self


NO_OP = NoOp()

Hook = Callable[P, Sequence[Any]] | NoOp
"""The function of an ordinary hook: returns the results of its plugins that are not None."""

AroundHook = Callable[Concatenate[Callable[P, R], P], R]
"""The function of an around-hook: calls what it is given with the arguments that follow, and returns the result."""

HookCall = Callable[..., Any] | NoOp
"""The function of any hook."""


class EvaluationHooks:
    """The hooks of one kind of evaluation, under the names that all kinds share, such as ``batch_start``."""

    __slots__ = ("batch_end", "batch_start", "end", "epoch_end", "epoch_start", "start")

    start: Hook[[]]
    end: Hook[[]]
    epoch_start: Hook[[]]
    epoch_end: Hook[[]]
    batch_start: Hook[[Batch, int, int]]
    batch_end: Hook[[Any, Batch, int, int]]


class BoundHooks:
    """Every hook as an attribute: a function that calls the plugins of this run, first called first.

    ``trainer`` and ``module`` are bound already, so a loop passes only what is new, by position and in the order of
    the specification: ``hooks.on_train_batch_end(outputs, batch, batch_idx)``. An ordinary hook returns the results
    that are not None. An around-hook first takes the function it goes around, and returns its result:
    ``hooks.around_training_step(step, batch, batch_idx)``.

    A hook that nobody joins may be called like any other. It is false, too, which spares the hottest places the call.

    The object stays the same during a run, but its attributes are set anew when plugins come and go. So read a hook
    from it at every call, and keep no reference to the function.

    Attributes:
        joined_in_step: Whether a plugin joins any hook from a batch's forward pass to the end of its update, the one to
            clip left out.
        asks_for_outputs: Whether a plugin that joins ``on_train_batch_end`` asks for its ``outputs``.
        validation: The hooks ``on_validation_*``, without that prefix.
        test: The hooks ``on_test_*``.
        predict: The hooks ``on_predict_*``.
    """

    __slots__ = (*HOOKS, "_joined", "asks_for_outputs", "joined_in_step", "predict", "test", "validation")

    asks_for_outputs: bool
    joined_in_step: bool
    validation: EvaluationHooks
    test: EvaluationHooks
    predict: EvaluationHooks

    # The arguments of each hook without the first two, so that a type checker sees a wrong call in a loop.
    # tests/hooks/test_bound.py compares them with specs.py, from which they are copied.
    setup: Hook[[Stage]]
    teardown: Hook[[Stage]]
    on_exception: Hook[[BaseException]]
    on_log: Hook[[dict[str, float], int]]
    on_save_checkpoint: Hook[[dict[str, Any]]]
    on_load_checkpoint: Hook[[dict[str, Any]]]

    on_fit_start: Hook[[]]
    on_fit_end: Hook[[]]
    on_sanity_check_start: Hook[[]]
    on_sanity_check_end: Hook[[]]
    on_train_start: Hook[[]]
    on_train_end: Hook[[]]
    on_train_epoch_start: Hook[[]]
    on_train_epoch_end: Hook[[]]
    on_train_batch_start: Hook[[Batch, int]]
    on_train_batch_end: Hook[[StepOutput, Batch, int]]

    on_before_zero_grad: Hook[[torch.optim.Optimizer]]
    on_before_backward: Hook[[Tensor]]
    on_after_backward: Hook[[]]
    on_before_optimizer_step: Hook[[torch.optim.Optimizer]]
    on_clip_gradients: Hook[[torch.optim.Optimizer]]
    on_after_optimizer_step: Hook[[torch.optim.Optimizer]]

    on_validation_start: Hook[[]]
    on_validation_end: Hook[[]]
    on_validation_epoch_start: Hook[[]]
    on_validation_epoch_end: Hook[[]]
    on_validation_batch_start: Hook[[Batch, int, int]]
    on_validation_batch_end: Hook[[Any, Batch, int, int]]
    on_test_start: Hook[[]]
    on_test_end: Hook[[]]
    on_test_epoch_start: Hook[[]]
    on_test_epoch_end: Hook[[]]
    on_test_batch_start: Hook[[Batch, int, int]]
    on_test_batch_end: Hook[[Any, Batch, int, int]]
    on_predict_start: Hook[[]]
    on_predict_end: Hook[[]]
    on_predict_epoch_start: Hook[[]]
    on_predict_epoch_end: Hook[[]]
    on_predict_batch_start: Hook[[Batch, int, int]]
    on_predict_batch_end: Hook[[Any, Batch, int, int]]

    around_fit: AroundHook[..., None]  # the loop hands arguments to ``fit`` that plugins cannot ask for
    around_training_step: AroundHook[[Batch, int], Any]
    around_evaluation_step: AroundHook[[Batch, int, int], Any]
    around_backward: AroundHook[[Tensor], None]
    around_optimizer_step: AroundHook[[torch.optim.Optimizer], bool]
    around_save_checkpoint: AroundHook[[str], None]

    def __init__(self) -> None:
        self.validation = EvaluationHooks()
        self.test = EvaluationHooks()
        self.predict = EvaluationHooks()
        self._joined: set[str] = set()
        self.asks_for_outputs = False
        for hook in HOOKS:
            self.rebind(hook, no_op(hook))

    def rebind(self, hook: str, call: HookCall) -> None:
        """Make ``call`` the function of ``hook``, from the next call on."""
        setattr(self, hook, call)
        (self._joined.discard if call is no_op(hook) else self._joined.add)(hook)
        # Kept up to date here, where plugins come and go, so that a step only reads an attribute.
        self.joined_in_step = not STEP_HOOKS.isdisjoint(self._joined)
        for stage in ("validation", "test", "predict"):
            event = hook.removeprefix(f"on_{stage}_")
            if event != hook:
                setattr(getattr(self, stage), event, call)


def no_op(hook: str) -> HookCall:
    """Return the function of a hook that no plugin joins."""
    # `operator.call(step, batch, batch_idx)` is `step(batch, batch_idx)`: it adds no Python frame to the user's step.
    return operator.call if hook.startswith("around_") else NO_OP
