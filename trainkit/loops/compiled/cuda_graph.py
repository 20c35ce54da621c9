"""The step as eager kernels in one CUDA graph: recorded once, then launched as a whole. Needs no compiler.

A backend of ``torch.compile``: Dynamo has traced the step, guards what it took for constant, and calls what is made
here with the tensors that the step uses. Parameters, gradients, buffers and the optimizer's state are used where they
lie. The batch is copied to where it lay when the step was recorded.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, fx

from trainkit.errors import CompileError
from trainkit.output import warn

MOVES = 4
"""So often a step is recorded anew because something lies elsewhere; then it is said."""


class Recorder(Protocol):
    """What knows how to record: a device."""

    def warm_up(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Call ``function`` as it is, so that what happens the first time only is over."""

    def record(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Callable[[], Any]:
        """Record ``function`` without computing anything; return what does it, with the tensors that were recorded."""


class CudaRecorder(Recorder):
    """Records CUDA graphs, as torch's notes on them say: https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs."""

    def __init__(self) -> None:
        self._side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def warm_up(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        # On a side stream, as torch's notes on CUDA graphs ask of what is to be recorded afterwards.
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            outputs = function(*arguments)
        torch.cuda.current_stream().wait_stream(self._side)
        return outputs

    def record(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Callable[[], Any]:
        graph = torch.cuda.CUDAGraph()
        # Of this thread alone: the one of a DataLoader that pins memory may do so at any time.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = function(*arguments)

        def replay() -> Any:
            # The same tensors each time, with other values: whoever keeps one has to copy it.
            graph.replay()
            return outputs

        return replay


def cuda_graphs(
    recorder: Recorder, device_type: str = "cuda"
) -> Callable[[fx.GraphModule, Sequence[Any]], RecordedGraph]:
    """Return a backend for ``torch.compile``.

    Args:
        recorder: Records.
        device_type: Where everything has to be that a step reads.
    """

    def backend(graph: fx.GraphModule, inputs: Sequence[Any]) -> RecordedGraph:
        return RecordedGraph(graph, inputs, recorder, device_type)

    return backend


class RecordedGraph:
    """One graph of Dynamo's, called as it is the first time, recorded at the second, and replayed from then on.

    Args:
        graph: The graph.
        inputs: Examples of what it is called with.
        recorder: Records.
        device_type: Where all tensors have to be.

    Raises:
        CompileError: If the graph reads a number, or a tensor in the memory of the host: constants in a recording.
    """

    def __init__(self, graph: fx.GraphModule, inputs: Sequence[Any], recorder: Recorder, device_type: str) -> None:
        self._graph = graph
        self._recorder = recorder
        placeholders = graph.graph.find_nodes(op="placeholder")
        # Known by how Python reaches them, for messages: "placeholder 7" would say nothing to the user.
        self._names = [_source(node) for node in placeholders]
        used = {_source(node): each for node, each in zip(placeholders, inputs, strict=True)}
        for name, value in {**used, **_kept_tensors(graph)}.items():
            # A number, or host memory, is read while the step is recorded, and never again.
            if not (isinstance(value, Tensor) and value.device.type == device_type):
                raise _not_on_device(name, value)
        self._lies_still = [bool(node.meta.get("tensor_dict", {}).get(_STATIC)) for node in placeholders]
        self._is_warm = False
        self._moves = 0
        self._replay: Callable[[], Any] | None = None
        self._buffers: list[Tensor] = []
        self._copied: list[int] = []
        self._still: list[int] = []
        self._addresses: list[int] = []

    def __call__(self, *inputs: Any) -> Any:
        if self._replay is None:
            return self._record(inputs) if self._is_warm else self._warm_up(inputs)
        # A recording knows addresses, and nothing of Python's names: after load_state_dict a state may lie elsewhere.
        if [inputs[index].data_ptr() for index in self._still] != self._addresses:
            return self._moved(inputs)
        if self._copied:
            torch._foreach_copy_(self._buffers, [inputs[index] for index in self._copied])
        return self._replay()

    def _warm_up(self, inputs: Sequence[Any]) -> Any:
        # Torch counts in-place changes of each tensor: what has one more after the step was written to by it.
        versions = [tensor._version if isinstance(tensor, Tensor) else 0 for tensor in inputs]
        outputs = self._recorder.warm_up(self._graph, inputs)
        tensors = [index for index, each in enumerate(inputs) if isinstance(each, Tensor)]
        # What the step changes in place is changed where it lies, as is what Dynamo says stays there.
        self._still = [i for i in tensors if self._lies_still[i] or inputs[i]._version != versions[i]]
        self._copied = [index for index in tensors if index not in self._still]
        self._is_warm = True
        return outputs

    def _record(self, inputs: Sequence[Any]) -> Any:
        arguments = list(inputs)
        for index in self._copied:
            arguments[index] = inputs[index].detach().clone().requires_grad_(inputs[index].requires_grad)
        self._buffers = [arguments[index].detach() for index in self._copied]
        self._addresses = [inputs[index].data_ptr() for index in self._still]
        # The copies are kept, since the recording reads from where they lie.
        try:
            self._replay = self._recorder.record(self._graph, arguments)
        except RuntimeError as error:
            raise CompileError(
                "the step cannot be recorded as a CUDA graph.\n"
                f"    why          {error}\n"
                '    to do        read no value of a tensor in training_step, or use compile="step"'
            ) from error
        return self._replay()

    def _moved(self, inputs: Sequence[Any]) -> Any:
        moved = [
            self._names[index]
            for index, address in zip(self._still, self._addresses, strict=True)
            if inputs[index].data_ptr() != address
        ]
        self._replay, self._is_warm = None, False
        self._moves += 1
        if self._moves == MOVES:
            warn(
                f'compile="cuda-graph" has recorded the step {MOVES} times, as tensors that it uses lie elsewhere each '
                f"time: {', '.join(moved[:3])}. Change them in place."
            )
        return self._warm_up(inputs)


_STATIC = "_dynamo_static_input_type"


def _kept_tensors(graph: fx.GraphModule) -> dict[str, Tensor]:
    """Return the tensors that a graph keeps itself, such as the state of an optimizer."""
    names = [str(node.target) for node in graph.graph.find_nodes(op="get_attr")]
    kept = {name: operator.attrgetter(name)(graph) for name in names}
    return {name: value for name, value in kept.items() if isinstance(value, Tensor)}


def _source(node: fx.Node) -> str:
    """Return how the step came to an input, in Python."""
    source = getattr(node, "_dynamo_source", None)
    name = getattr(source, "name", node.name)
    return str(name() if callable(name) else name)


def _not_on_device(name: str, example: Any) -> CompileError:
    what = f"a tensor on {example.device}" if isinstance(example, Tensor) else f"a {type(example).__name__}"
    return CompileError(
        f'compile="cuda-graph" records a step once, and {name} is {what}, which would keep the value of that moment.\n'
        '    to do        make it a tensor on the device that is changed in place, or use compile="step"'
    )
