"""The step function of ``Trainer(compile="step")``."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

from trainkit.batch.nested import map_tensors
from trainkit.hooks.bound import BoundHooks
from trainkit.loops import optimize
from trainkit.loops.accumulation import Place
from trainkit.loops.compiled import explain
from trainkit.loops.compiled.graph import Backend, Clip, Result, compile_graph
from trainkit.loops.compiled.optimizer import makes_state, trace
from trainkit.loops.compiled.reference_step import BindStep, ReferenceStep
from trainkit.loops.compiled.trace_guard import TraceGuard
from trainkit.loops.run import FitRun
from trainkit.module.attached import log_to
from trainkit.types import Batch, StepOutput

COMPARED_STEPS = 3
"""So many steps are compared with eager ones each time something was compiled."""

MAX_AGAIN, WINDOW = 4, 64
"""What is compiled so often within so many batches, for shapes that are known, is compiled at every step."""

MAX_SHAPES = 32
"""Different shapes of batches, each of which is compiled for."""


class CompiledStep:
    """Does what `optimize.step` does, with forward, backward, clipping and update in one graph.

    Hooks between them cannot be called, so nobody may listen there. Everything else is as ever: the gradients are in
    ``.grad`` afterwards, logged values reach the collector, the optimizer has its state. What is computed depends on
    what a checkpoint keeps, and on nothing else, so that a resumed run does the same: also which steps are eager, those
    until an optimizer has its state.

    Args:
        run: The run; its optimizer has its state, if it is resumed.
        bind_step: How the ``training_step`` of a copy of the module is called.
        clip: How gradients are clipped.
        backend: What makes code of the graph; by default inductor.
    """

    def __init__(self, run: FitRun, bind_step: BindStep, clip: Clip, backend: Backend | None = None) -> None:
        import torch._dynamo.exc as dynamo

        self._refusals = (dynamo.TorchDynamoException, dynamo.FailOnRecompileLimitHit)
        self._run = run
        self._bind_step = bind_step
        self._clip = clip
        self._backend = backend
        self._guard = TraceGuard()
        self._logged: list[tuple[Any, ...]] = []
        self._on_cuda = run.strategy.device.type == "cuda"
        # bf16-true and its like: new tensors have that dtype.
        self._has_default_dtype = run.precision.dtype is not None
        self._awaits_state: bool | None = None
        self._connect()

    def __call__(self, run: FitRun, hooks: BoundHooks, batch: Batch, batch_idx: int, is_last: bool) -> StepOutput:
        """Forward and backward for one batch; update the weights if it closes its accumulation group."""
        if not self._optimizer.is_current():
            self._connect()
        # Everything that Python would branch on within the step, decided ahead of it.
        place = run.accumulation.place(batch_idx, is_last)
        if self._awaits_state is None and not self._reference_step(batch, batch_idx, place).skipped:
            self._awaits_state = makes_state(run.optimizer, self._trained)
        # A graph of the very first update would have to make the optimizer's state, and each later one another graph.
        if self._awaits_state is not False:
            updates = run.progress.global_step
            outputs = optimize.step(run, hooks, batch, batch_idx, is_last)
            if self._awaits_state and run.progress.global_step > updates:
                self._awaits_state = False
            return outputs
        run.counted_update = False
        if place.opens:
            hooks.on_before_zero_grad(run.optimizer)
        result = self._compute(batch, batch_idx, place)
        if result.outputs is None:
            if place.closes:
                optimize.close_group(run, hooks)
            return {}
        run.accumulation.advance(place, batch_idx, result.weight)
        if place.closes:
            run.count_update()
            hooks.on_after_optimizer_step(run.optimizer)
        return result.outputs

    def _connect(self) -> None:
        """Stand for the optimizer as it is now."""
        run = self._run
        self._optimizer = trace(run.optimizer, run.schedulers, run.strategy.device)
        self._awaits_state = None  # not known before it is known which parameters get gradients
        self._graph = compile_graph(run, self._optimizer, self._clip, self._guard, self._backend)
        self._trained: list[Tensor] = []  # what has a gradient after a step
        self._to_compare = 0
        # Compiled for on purpose; what is compiled again for the same ones is a constant that keeps changing.
        self._shapes: set[Any] = set()
        self._again: deque[int] = deque(maxlen=MAX_AGAIN)
        # Schedulers warn if they step before an optimizer has, which they see by its own ``step``.
        for each in run.optimizers:
            vars(each)["_opt_called"] = True

    # Calling the graph

    def _compute(self, batch: Batch, batch_idx: int, place: Place) -> Result:
        # The user may call zero_grad between steps; the graph needs something to write to.
        if self._trained and self._trained[0].grad is None:
            self._make_gradients()
        reference = None
        if self._to_compare:
            reference = self._reference_step(batch, batch_idx, place)
        try:
            result = self._call(batch, batch_idx, place)
        except self._refusals:
            # Dynamo may not trace here, so nothing has changed yet: there is time to make a copy.
            reference = reference or self._reference_step(batch, batch_idx, place)
            result = self._compile(batch, batch_idx, place)
        if reference is not None:
            reference.compare(result.outputs or {}, place)
            self._to_compare -= 1
        if self._logged:
            for arguments in self._logged:
                self._run.metrics.log(*arguments)
            self._logged.clear()
        if self._on_cuda and result.outputs is not None:
            # The next replay writes to the same places.
            result = Result(map_tensors(Tensor.clone, result.outputs), map_tensors(Tensor.clone, result.weight))
        return result

    def _call(self, batch: Batch, batch_idx: int, place: Place) -> Result:
        run = self._run
        # What is logged within the graph leaves it in a list.
        log_to(run.module, self._note)
        weight = run.accumulation.weight_before(place)
        try:
            if self._on_cuda:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            if not self._has_default_dtype:
                return self._graph(batch, batch_idx, place, weight, self._optimizer.momenta())
            with run.precision.autocast():
                return self._graph(batch, batch_idx, place, weight, self._optimizer.momenta())
        finally:
            log_to(run.module, run.metrics.log)

    def _note(self, name: str, value: Any, *options: Any) -> None:
        self._logged.append((name, value.detach() if isinstance(value, Tensor) else value, *options))

    # Compiling

    def _reference_step(self, batch: Batch, batch_idx: int, place: Place) -> ReferenceStep:
        """Make the step on a copy, eagerly, and see to it that the parameters have gradients that have some there."""
        run = self._run
        reference = ReferenceStep(run, self._bind_step, self._clip)
        reference.step(batch, batch_idx, place)
        if reference.skipped:
            return reference
        trained = reference.trained()
        if self._trained and {*map(id, trained)} != {*map(id, self._trained)}:
            raise explain.uses_other_parameters(run.module, self._trained, trained)
        self._trained = trained
        self._make_gradients()
        return reference

    def _make_gradients(self) -> None:
        """Give the graph something to write gradients to. A parameter without one takes no part, as in eager steps."""
        from torch._dynamo import mark_static_address

        trained = {*map(id, self._trained)}
        for parameter in self._optimizer.all_parameters():
            if id(parameter) not in trained:
                parameter.grad = None
            elif parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None and self._on_cuda:
                mark_static_address(parameter.grad)

    def _compile(self, batch: Batch, batch_idx: int, place: Place) -> Result:
        """Call the graph and let it be compiled for what it is called with."""
        without_cuda_graph = explain.graphs_without_cuda_graph()
        if self._on_cuda:
            self._optimizer.put_counters_on_device()
        try:
            with self._guard.tracing_allowed():
                result = self._call(batch, batch_idx, place)
        except self._refusals as error:
            raise explain.explained(error, self._run.module) from error
        if self._guard.has_traced:
            self._to_compare = COMPARED_STEPS
            self._refuse_too_many(_shapes(batch, place))
        if explain.graphs_without_cuda_graph() > without_cuda_graph:
            explain.warn_of_missing_cuda_graph()
        return result

    def _refuse_too_many(self, shapes: Any) -> None:
        if shapes not in self._shapes:
            self._shapes.add(shapes)
            # A sequence length that is never the same twice would compile for ever.
            if len(self._shapes) > MAX_SHAPES:
                raise explain.too_many_shapes(len(self._shapes))
            return
        self._again.append(self._run.progress.total_batches)
        if len(self._again) == MAX_AGAIN and self._again[-1] - self._again[0] < WINDOW:
            raise explain.compiled_too_often(self._run.module, MAX_AGAIN)


def _shapes(batch: Batch, place: Place) -> tuple[Any, ...]:
    shapes: list[Any] = [place]

    def note(tensor: Tensor) -> Tensor:
        shapes.append((tensor.shape, tensor.dtype))
        return tensor

    map_tensors(note, batch)
    return tuple(shapes)
