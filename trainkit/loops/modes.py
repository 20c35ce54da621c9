"""The state a module is in while it is evaluated: eval mode, no gradients; put back exactly afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from trainkit.loops.run import Run
from trainkit.types import Phase


@contextmanager
def evaluation_mode(run: Run, phase: Phase) -> Iterator[None]:
    """Evaluate ``run.module`` inside: eval mode, no gradients, ``run.phase`` set; all put back afterwards."""
    outer_phase, run.phase = run.phase, phase
    without_gradients = torch.inference_mode if run.inference_mode else torch.no_grad
    try:
        with eval_mode(run.module), without_gradients():
            yield
    finally:
        run.phase = outer_phase


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put ``module`` into eval mode; each submodule gets its own mode back, so a frozen one in eval mode stays so."""
    was_training = [submodule for submodule in module.modules() if submodule.training]
    module.eval()
    try:
        yield
    finally:
        for submodule in was_training:
            submodule.training = True
