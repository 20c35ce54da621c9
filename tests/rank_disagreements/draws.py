"""What one rank does alone, at which place of which call: drawn by chance."""

from __future__ import annotations

import random
from dataclasses import dataclass

IN_FIT = [
    "setup", "configure_optimizers", "on_fit_start", "on_train_start", "on_train_epoch_start", "on_train_batch_start",
    "training_step", "on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step",
    "on_clip_gradients", "on_after_optimizer_step", "on_train_batch_end", "on_train_epoch_end", "on_save_checkpoint",
    "on_train_end", "on_fit_end", "teardown",
]  # fmt: skip

OF_BATCHES = {
    "on_train_batch_start", "training_step", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_clip_gradients", "on_after_optimizer_step", "on_train_batch_end",
}  # fmt: skip

IN_VALIDATION_OF_FIT = ["on_sanity_check_start", "on_sanity_check_end"]

OF_MODULE_ALONE = {"configure_optimizers", "training_step", "validation_step", "test_step", "predict_step"}

CALLS = {"fit": "", "validate": "validation", "test": "test", "predict": "predict"}

HARMLESS = {"nothing", "sleeps", "logs"}
"""After these a run comes to what it comes to without them."""

ENDINGS = {"is killed": -9, "ends at once": 9, "exits": 3}
"""How the odd rank ends by these, as its parent sees it."""

ACTIONS = [
    "raises", "stops", "skips", "logs", "logs with sync_dist", "saves", "sleeps", "meets", "reduces", "changes a rate",
    "changes a weight", "breaks", *ENDINGS,
]  # fmt: skip


@dataclass(frozen=True)
class Draw:
    """One rank does one thing, once.

    Attributes:
        seed: Which draw it is.
        world_size: How many ranks there are.
        odd: Which of them does it.
        call: The method of the Trainer that runs.
        hook: In which hook, or step.
        owner: Whose hook: ``module`` or ``callback``.
        at: At which call of it.
        action: What it does.
        is_manual: Whether the module optimizes by hand.
        validates: Whether a fit validates, and tries that first.
        accumulate: How many batches make an update.
        saves: Whether the fit keeps its newest state.
    """

    seed: int
    world_size: int
    odd: int
    call: str
    hook: str
    owner: str
    at: int
    action: str
    is_manual: bool
    validates: bool
    accumulate: int
    saves: bool

    @classmethod
    def draw(cls, seed: int) -> Draw:
        """Return the draw of ``seed``."""
        choose = random.Random(seed)
        call = choose.choice(["fit", "fit", "fit", *CALLS])
        validates = call == "fit" and choose.random() < 0.6
        hooks = [*IN_FIT, *(IN_VALIDATION_OF_FIT if validates else ())] if call == "fit" else ["setup", "teardown"]
        if kind := "validation" if validates else CALLS[call]:
            hooks += [f"on_{kind}_{place}" for place in ("start", "epoch_start", "batch_start", "batch_end")]
            hooks += [f"on_{kind}_epoch_end", f"on_{kind}_end", f"{kind}_step"]
        action, hook = choose.choice(ACTIONS), choose.choice(hooks)
        if action == "skips":
            hook = choose.choice(["on_train_batch_start", "training_step"]) if call == "fit" else hook
        is_manual = call == "fit" and choose.random() < 0.35
        if is_manual and hook == "on_before_zero_grad":
            hook = "on_before_optimizer_step"  # the other one is the loop's
        accumulate = 1 if is_manual or call != "fit" else choose.choice([1, 1, 2])
        world_size = choose.choice([2, 2, 3])
        return cls(
            seed=seed,
            world_size=world_size,
            odd=choose.randrange(world_size),
            call=call,
            hook=hook,
            owner="module" if hook in OF_MODULE_ALONE else choose.choice(["module", "callback"]),
            at=choose.randint(1, _most_calls(call, hook, accumulate)),
            action=action,
            is_manual=is_manual,
            validates=validates,
            accumulate=accumulate,
            saves=call == "fit" and (choose.random() < 0.6 or hook == "on_save_checkpoint"),
        )

    def __str__(self) -> str:
        ways = [
            "manual" if self.is_manual else "",
            "validating" if self.validates else "",
            f"accumulating {self.accumulate}" if self.accumulate > 1 else "",
            "saving" if self.saves else "",
        ]
        how = ", ".join(filter(None, ways))
        return (
            f"draw {self.seed}: rank {self.odd} of {self.world_size} {self.action} in {self.hook} of its {self.owner}, "
            f"the {self.at}. time, in {self.call}{how and f' ({how})'}"
        )


def _most_calls(call: str, hook: str, accumulate: int) -> int:
    """Return how often ``hook`` is called at least, on any rank, of which one may have few batches."""
    if call != "fit":
        return 1
    if hook in OF_BATCHES:
        return 4 // accumulate
    if "batch" in hook or "_step" in hook:
        return 3  # those of the sanity check among them
    return 2 if "epoch" in hook or hook == "on_save_checkpoint" else 1
