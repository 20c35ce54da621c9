"""What a training step costs on one GPU."""

from __future__ import annotations

from benchmarks import tasks
from benchmarks.cases.case import Budget, Case
from benchmarks.cases.steps import StepCase

CASES: dict[str, Case] = {
    "cuda-mlp": StepCase(title="MLP on a GPU", clock="wall", task=tasks.MLP_ADAMW, device="cuda"),
    "cuda-graphs": StepCase(
        title="MLP on a GPU, whole step compiled and replayed as a CUDA graph",
        clock="wall",
        budget=Budget("ratio", 1 / 3),
        task=tasks.MLP_ADAMW,
        compiled=True,
        device="cuda",
    ),
    "cuda-resnet50": StepCase(
        title="ResNet-50 on a GPU, bf16",
        clock="wall",
        budget=Budget("ratio", 1.01),
        size=5,
        task=tasks.RESNET50,
        turns=40,
        device="cuda",
    ),
    "cuda-gpt2": StepCase(
        title="transformer of the size of GPT-2 on a GPU, bf16",
        clock="wall",
        budget=Budget("ratio", 1.01),
        size=5,
        task=tasks.GPT2,
        turns=40,
        device="cuda",
    ),
}
