"""Which step runs when, and how far below `Trainer.fit` the user's step is in each (docs/explanation/loop.md)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

import trainkit
from trainkit.loops.closure import step_with_closure
from trainkit.loops.compiled.step import CompiledStep
from trainkit.loops.manual import manual_step
from trainkit.loops.oom_split import step_in_parts
from trainkit.loops.optimize import step
from trainkit.loops.steps import choose_step
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer

MOST_FRAMES = 6
PACKAGE = str(Path(trainkit.__file__).parent)


class WithLbfgs(TinyModule):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), max_iter=2)


class OwnOptimizerStep(TinyModule):
    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        optimizer.step(closure=optimizer_closure)


class InheritedOptimizerStep(TinyModule):
    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)


class Manual(TinyModule):
    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.loss(batch)
        self.manual_backward(loss)
        optimizer.step()
        return loss


class NoOptimizer(TinyModule):
    def configure_optimizers(self):
        return None


VARIANTS = {
    "plain": (TinyModule, {}, step),
    "accumulation": (TinyModule, {"accumulate_grad_batches": 2}, step),
    "clipping": (TinyModule, {"gradient_clip_val": 1.0}, step),
    "bf16-mixed": (TinyModule, {"precision": "bf16-mixed"}, step),
    "16-mixed": (TinyModule, {"precision": "16-mixed"}, step),
    "LBFGS": (WithLbfgs, {}, step_with_closure),
    "own optimizer_step": (OwnOptimizerStep, {}, step_with_closure),
    "manual": (Manual, {}, manual_step),
    "no optimizer": (NoOptimizer, {}, manual_step),
    "out of memory": (TinyModule, {"accumulate_grad_batches": "auto"}, step_in_parts),
}


def chosen_step(module, arguments):
    chosen = []

    class Look:
        def on_train_start(self, trainer):
            chosen.append(choose_step(trainer.fit_run))

    quiet_trainer(callbacks=[Look()], **arguments).fit(module, TinyData(2))
    return chosen[0]


def frames(kind, arguments):
    """Return the functions of trainkit from `Trainer.fit` down to the first call of ``training_step``."""
    found = []

    class Module(kind):
        def training_step(self, batch, batch_idx):
            frame, names = sys._getframe(1), []
            while frame.f_code is not trainkit.Trainer.fit.__code__:
                names.append((frame.f_code.co_filename, frame.f_code.co_qualname))
                frame = frame.f_back
            names.append((frame.f_code.co_filename, frame.f_code.co_qualname))
            found.append([name for file, name in reversed(names) if file.startswith(PACKAGE)])
            return super().training_step(batch, batch_idx)

    quiet_trainer(**arguments).fit(Module(), TinyData(2))
    return found[0]


@pytest.mark.filterwarnings("ignore:configure_optimizers\\(\\) returned None:UserWarning")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_step_fits_the_module(variant):
    kind, arguments, expected = VARIANTS[variant]
    assert chosen_step(kind(), arguments) is expected


@pytest.mark.slow
def test_a_compiled_step_takes_the_place_of_the_usual_one():
    assert isinstance(chosen_step(TinyModule(), {"compile": "step"}), CompiledStep)


@pytest.mark.filterwarnings("ignore:configure_optimizers\\(\\) returned None:UserWarning")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_users_step_is_at_most_six_frames_away(variant):
    kind, arguments, _ = VARIANTS[variant]
    names = frames(kind, arguments)
    assert names[0] == "Trainer.fit"
    assert len(names) <= MOST_FRAMES, names


def test_a_plugin_that_looks_on_after_the_step_changes_nothing_of_it():
    recorder = Recorder(only=["on_train_batch_end"])
    assert len(frames(TinyModule, {"callbacks": [recorder]})) == len(frames(TinyModule, {}))


def test_a_call_of_the_inherited_optimizer_step_is_a_frame_of_its_own():
    assert len(frames(InheritedOptimizerStep, {})) == len(frames(OwnOptimizerStep, {})) + 1


def test_the_default_fit_enters_the_function_that_the_pages_name():
    names = frames(TinyModule, {})
    assert names == ["Trainer.fit", "fit", "train_epoch", "step"]
    for page in ("README.md", "docs/explanation/loop.md"):
        text = (Path(PACKAGE).parent / page).read_text(encoding="utf-8")
        assert re.search(r"loops/fit\.py", text)
        assert "optimize.py" in text
