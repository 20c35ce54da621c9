"""The outline of a fit is that of the documentation."""

from __future__ import annotations

from tests.test_docs import blocks
from trainkit.hooks.specs import HOOKS
from trainkit.trainer.explain.outline import OUTLINE


def test_the_outline_is_in_the_order_that_the_documentation_promises() -> None:
    (block,) = blocks("explanation/loop.md", "text")
    promised = [line.split()[0] for line in block.splitlines() if line.strip() and "as below" not in line]
    names = [line.strip() for line in OUTLINE.splitlines()]
    course = [name for name in names if name in promised]
    assert course == [name for name in promised if name in names]
    later = {name for name in HOOKS if name.startswith(("on_test", "on_predict"))}
    assert set(HOOKS) - later - set(names) <= {"on_load_checkpoint"}
