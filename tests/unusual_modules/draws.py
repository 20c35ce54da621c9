"""What a module may look like, drawn from a seed. `modules.py` makes the module, and `by_hand.py` trains its like."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tests.unusual_modules import optimizers

STEP_FORMS = ("method", "mixin", "wrapped", "partialmethod", "function", "partial", "bound", "object", "args")
NOT_THERE = ("none", "none on the object", "absent")
HOOK_FORMS = (*STEP_FORMS, *NOT_THERE)
HOOKS = {
    "on_train_start": (),
    "on_train_epoch_start": (),
    "on_train_batch_start": ("batch_idx",),
    "on_before_zero_grad": (),
    "on_after_backward": (),
    "on_before_optimizer_step": (),
    "on_after_optimizer_step": (),
    "on_train_batch_end": ("batch_idx",),
    "on_train_epoch_end": (),
    "on_train_end": (),
}
OF_A_STEP = [name for name in HOOKS if "batch" not in name and "train" not in name]
"""Hooks from forward to update. With manual optimization the module decides where they are, so none is drawn."""

OFF = ("backward", "configure_callbacks", "configure_gradient_clipping", "configure_model", "optimizer_zero_grad",
       "transfer_batch_to_device", "on_validation_model_eval", "lr_scheduler_step")  # fmt: skip
EVALUATES_TWICE = (optimizers.Sam, optimizers.SamPastAutograd, optimizers.lbfgs)
OPTIMIZERS = (
    optimizers.sgd, optimizers.adam, optimizers.Deaf, optimizers.WithoutClosure, optimizers.Polyak, optimizers.Around,
    optimizers.Subclass, *EVALUATES_TWICE,
)  # fmt: skip
OWN_STEPS = ("passes the closure", "calls the closure", "second_step")
MANUAL = ("wrapped", "bare", "not wrapped", "closure", "second_step", "sam", "two", "every second")
CHANGES = ("nothing", "freezes", "thaws", "new group", "new layer")


@dataclass(frozen=True)
class Draw:
    """One module, and how it is trained.

    Attributes:
        seed: From which it was drawn.
        door: Whether its base is the `LightningModule` of the compatibility layer.
        step: In which form it has its ``training_step``.
        validation: In which form it has its ``validation_step``.
        hooks: In which form it has each hook.
        off: Which methods are None, and whether in its class or on the object.
        optimizer: Makes the optimizer.
        own_step: What its ``optimizer_step`` does; None if it has none.
        manual: How it steps with manual optimization; None with automatic.
        frozen: Whether its first layer is frozen from the beginning.
        left_out: Whether its first layer is not in the optimizer.
        alternates: Whether one layer takes part in every second batch only.
        change: What happens to its parameters at the beginning of the second epoch.
        output: What its ``training_step`` returns.
        skips: A batch for which that is None; None if there is none.
        epochs: How many epochs.
        batches: How many batches each has.
        group: How many batches make an update.
        clip: The largest norm of the gradients; None is without bound.
        max_steps: After how many updates the fit ends; -1 is without bound.
    """

    seed: int
    door: bool
    step: str
    validation: str
    hooks: dict[str, str]
    off: dict[str, str]
    optimizer: Any
    own_step: str | None
    manual: str | None
    frozen: bool
    left_out: bool
    alternates: bool
    change: str
    output: str
    skips: int | None
    epochs: int
    batches: int
    group: int
    clip: float | None
    max_steps: int

    def __str__(self) -> str:
        values = {name: value for name, value in vars(self).items() if value not in (None, False, "nothing")}
        values["optimizer"] = self.optimizer.__name__
        values["hooks"] = {name: form for name, form in self.hooks.items() if form != "absent"}
        return ", ".join(f"{name}={value!r}" for name, value in values.items())


def draw(seed: int) -> Draw:
    """Return what ``seed`` stands for."""
    rng = random.Random(seed)
    kind = rng.choice(("automatic", "automatic", "own step", "manual", "manual"))
    manual = rng.choice(MANUAL) if kind == "manual" else None
    own_step = rng.choice(OWN_STEPS) if kind == "own step" else None
    optimizer = rng.choice(OPTIMIZERS)
    if "second_step" in (manual, own_step):
        optimizer = optimizers.Around
    elif manual == "sam":
        optimizer = rng.choice((optimizers.Sam, optimizers.SamPastAutograd))
    elif manual == "closure":
        optimizer = rng.choice((optimizers.sgd, optimizers.lbfgs, optimizers.Polyak, optimizers.Around))
    elif kind != "automatic":
        optimizer = rng.choice((optimizers.sgd, optimizers.adam, optimizers.Subclass, optimizers.Around))
    skips = rng.choice((None, None, 0, 1, 2)) if manual is None else None
    return Draw(
        seed=seed,
        door=rng.random() < 0.3,
        step=rng.choice(STEP_FORMS),
        validation=rng.choice(HOOK_FORMS),
        hooks={name: "absent" if manual and name in OF_A_STEP else rng.choice(HOOK_FORMS) for name in HOOKS},
        off={name: rng.choice(("class", "object")) for name in OFF if rng.random() < 0.2},
        optimizer=optimizer,
        own_step=own_step,
        manual=manual,
        frozen=rng.random() < 0.2,
        left_out=rng.random() < 0.2,
        alternates=rng.random() < 0.3,
        # LBFGS has one group of parameters.
        change=rng.choice(CHANGES[:3] if optimizer is optimizers.lbfgs else CHANGES),
        output=rng.choice(("loss", "dict")),
        skips=skips,
        epochs=rng.randint(1, 3),
        batches=rng.randint(3, 6),
        group=1 if manual is not None or optimizer in EVALUATES_TWICE else rng.choice((1, 1, 2, 3)),
        clip=rng.choice((None, 0.5)) if manual is None else None,
        max_steps=rng.choice((-1, -1, 2, 4)),
    )
