"""Saying why a step cannot be compiled, or should not be."""

from __future__ import annotations

from torch import Tensor

from trainkit.errors import CompileError
from trainkit.module import TrainModule
from trainkit.output import warn

OBSTACLES = {
    "data-dependent": "let no branch depend on values of tensors: use torch.where, or compute both and choose",
    "grad_fn": "detach what training_step keeps in an attribute, or logs in another way than self.log",
}
"""What to do about an obstacle, by a word in what Dynamo says of it."""

CHANGES = {
    ".traced.param_groups": "change no hyperparameter but learning rates; schedulers have cycle_momentum=False",
    "param_groups": "log learning rates with callbacks=[LearningRateMonitor()]",
}
"""What to do about a value that changes at each step, by a word in the guard that found it changed."""


def explained(error: BaseException, module: TrainModule) -> CompileError:
    """Say what stands in the way of one graph, and where, in the words of the one who wrote ``training_step``."""
    # What was raised by us while Dynamo traced comes wrapped in its own error.
    own = getattr(error, "inner_exception", None)
    if isinstance(own, CompileError):
        return own
    # Dynamo's messages run over pages of advice on its own settings; the first line and the explanation say it.
    lines = [line.strip() for line in str(error).splitlines()]
    why = next((line for line in lines if line), type(error).__name__)
    explanation = next((line.partition(": ")[2] for line in lines if line.startswith("Explanation: ")), "")
    message = [
        f'compile="step" cannot make one graph of {type(module).__name__}.training_step.',
        f"    why          {why}",
    ]
    if explanation:
        message.append(f"                 {explanation}")
    message += [f"    where        {where}" for where in _places(error)]
    remedies = [remedy for word, remedy in OBSTACLES.items() if word in str(error).lower()]
    remedies.append("use compile=True, which compiles the layers, or leave compile out")
    message += [f"    {'to do' if remedy is remedies[0] else 'or':12} {remedy}" for remedy in remedies]
    return CompileError("\n".join(message))


def compiled_too_often(module: TrainModule, times: int) -> CompileError:
    """Say what keeps changing, so that a graph would be made at every step."""
    reason = _newest_reason()
    remedies = [remedy for word, remedy in CHANGES.items() if word in reason] or [
        "what changes from step to step must be a tensor, such as a buffer that is changed in place"
    ]
    return CompileError(
        f'compile="step" compiled {type(module).__name__}.training_step {times} times within a few steps, for batches '
        "of the same shapes.\n"
        f"    why          a Python value is a constant of the graph: {reason}\n"
        f"    to do        {remedies[0]}"
    )


def too_many_shapes(count: int) -> CompileError:
    """Say that every shape costs a compilation."""
    return CompileError(
        f'compile="step" compiles for each shape of a batch, and this is the {count}th.\n'
        "    to do        pad batches to a few shapes, use drop_last=True, or use compile=True"
    )


def uses_other_parameters(module: TrainModule, before: list[Tensor], now: list[Tensor]) -> CompileError:
    """Say which parameters get gradients in some steps and none in others."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    # Either way: one that has lost its gradient is as wrong as one that has gained one.
    changed = {id(parameter) for parameter in before} ^ {id(parameter) for parameter in now}
    shown = ", ".join(sorted(names.get(key, "(outside of the module)") for key in changed))
    return CompileError(
        f'compile="step" needs the same parameters to get gradients at every step of {type(module).__name__}.\n'
        f"    but not      {shown}\n"
        "    to do        use all of them at every step, or leave compile out"
    )


def graphs_without_cuda_graph() -> int:
    """Return how many graphs inductor has decided to launch kernel by kernel."""
    from torch._dynamo.utils import counters

    # Nothing else tells: inductor goes on with single kernels, and says so in a log that is off.
    return counters["inductor"]["cudagraph_skips"]


def warn_of_missing_cuda_graph() -> None:
    """Say that a step is compiled, but not launched as a whole."""
    warn(
        'compile="step" could not record the step as a CUDA graph, so its kernels are launched one by one. '
        "TORCH_LOGS=perf_hints says why."
    )


def _places(error: BaseException) -> list[str]:
    """Return where it happened: in the user's own code, and in the library that is called there."""
    # The frames of the loop are the same in every message, and nothing that a user could change.
    stack = [frame for frame in getattr(error, "real_stack", None) or () if "/trainkit/loops/" not in frame.filename]
    own = [frame for frame in stack if "site-packages" not in frame.filename]
    return list(dict.fromkeys(f"{frame.filename}:{frame.lineno}: {frame.line}" for frame in (*own[-1:], *stack[-1:])))


def _newest_reason() -> str:
    from torch._dynamo.utils import get_compilation_metrics

    reasons = [metrics.recompile_reason for metrics in get_compilation_metrics() if metrics.recompile_reason]
    return reasons[-1].splitlines()[0].partition(" (HINT:")[0] if reasons else "(torch does not say)"
