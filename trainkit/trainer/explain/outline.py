"""The course of a fit as an outline, with the plugins that listen in each place."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainkit.printable import printable

if TYPE_CHECKING:
    from trainkit.trainer.explain.explanation import Explanation

OUTLINE = """\
setup
around_fit
  on_fit_start
  on_sanity_check_start
  on_sanity_check_end
  on_train_start
    on_train_epoch_start
      on_train_batch_start
      around_training_step
        training_step
      on_before_zero_grad
      on_before_backward
      around_backward
        backward
      on_after_backward
      on_before_optimizer_step
      on_clip_gradients
      around_optimizer_step
        optimizer.step()
      on_after_optimizer_step
      on_train_batch_end
      on_validation_start
        on_validation_epoch_start
          on_validation_batch_start
          around_evaluation_step
            validation_step
          on_validation_batch_end
        on_validation_epoch_end
      on_validation_end
    on_train_epoch_end
  on_train_end
  on_fit_end
teardown
on_log
on_save_checkpoint
around_save_checkpoint
on_exception
"""
"""The order of a fit, which ``docs/explanation/loop.md`` promises; behind it hooks that may come at any time."""

_STEPS = {
    "training_step": "{module}.training_step",
    "backward": "{backward}",
    "optimizer.step()": "{update}",
    "validation_step": "{module}.validation_step",
}
"""What happens, beside what listens."""

_COLUMN = 36


def outline(told: Explanation, width: int) -> Iterator[str]:
    """Yield the lines of the outline; hooks that nobody joins are left out.

    Args:
        told: The fit.
        width: Characters of a line.
    """
    absent = {"backward", "optimizer.step()"} if told.step == "manual" else set()
    for line in OUTLINE.splitlines():
        name = line.strip()
        if name in absent or (not told.validation and name.startswith(("validation_", "on_validation_", "on_sanity_"))):
            continue
        if name in _STEPS:
            text = _STEPS[name].format(module=told.module, backward="loss.backward()", update=_update(told))
            yield _row(line, f"> {text}", width)
        elif name in told.hooks:
            yield from _rows(line, " > ".join(told.hooks[name]), width)


def _update(told: Explanation) -> str:
    return f"after {told.accumulation} batches" if told.accumulation > 1 else "after each batch"


def _rows(line: str, text: str, width: int) -> Iterator[str]:
    first, *rest = textwrap.wrap(printable(text), width - _COLUMN - 1) or [""]
    yield _row(line, first, width)
    yield from (f"{'':<{_COLUMN}} {part}" for part in rest)


def _row(line: str, text: str, width: int) -> str:
    return f"{line:<{_COLUMN}} {printable(text)}"[:width]
