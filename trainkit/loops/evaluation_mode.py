"""The state a module is in while it is evaluated: eval mode, no gradients; put back exactly afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainkit.loops.run import Run
from trainkit.module.modes import Flags, modes_kept
from trainkit.types import Phase

_NAMES = {
    Phase.SANITY_CHECK: "validation",
    Phase.VALIDATE: "validation",
    Phase.TEST: "test",
    Phase.PREDICT: "predict",
}


@contextmanager
def evaluation_mode(run: Run, phase: Phase) -> Iterator[None]:
    """Evaluate ``run.module`` inside: eval mode, no gradients, ``run.phase`` set; all put back afterwards.

    A module may define ``on_validation_model_eval``, which takes the place of ``eval()``, and
    ``on_validation_model_train``, which is called when the modes have been put back; so for ``test`` and ``predict``.
    """
    module, name = run.module, _NAMES[phase]
    outer_phase, run.phase = run.phase, phase
    run.flags = Flags.of(module)  # a checkpoint that is saved within has these, and not that all is in eval mode
    # inference_mode is faster, but what it makes cannot take part in training: not within a fit.
    without_gradients = torch.inference_mode if run.inference_mode else torch.no_grad
    try:
        run.optimizer_modes.eval()
        with modes_kept(module), without_gradients():
            (getattr(module, f"on_{name}_model_eval", None) or module.eval)()
            yield
        (getattr(module, f"on_{name}_model_train", None) or _nothing)()
    finally:
        # Also after an exception: somebody may catch it around this and train on.
        run.phase, run.flags = outer_phase, None


def _nothing() -> None:
    """Stands for a method that a module does not define."""
