"""The pages say what the code does."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from trainkit.hooks.specs import HOOKS
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer

DOCS = Path(__file__).parents[1] / "docs"

OUTSIDE_THE_PAGE = {"on_log", "on_exception", "on_load_checkpoint"}


def names_on_the_page() -> list[str]:
    """Return the hooks and methods of the big block, in order; one followed by ``...`` is told in full below."""
    block = re.search(r"```text\n(.*?)```", (DOCS / "explanation" / "loop.md").read_text(), re.DOTALL)
    assert block is not None
    names = re.findall(r"^ {0,14}(\w+)(?: (?!\.\.\.).*)?$", block[1], re.MULTILINE)
    return [name for name in names if name not in OUTSIDE_THE_PAGE]


def noting(recorder: Recorder, methods: list[str]) -> TinyModule:
    """Return a module that writes the calls of its own methods into the recorder's list."""

    class Noting(TinyModule):
        pass

    def noted(method: Any) -> Any:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            recorder.note(method.__name__)
            return method(*args, **kwargs)

        return call

    for name in methods:
        setattr(Noting, name, noted(getattr(TinyModule, name)))
    return Noting()


def without_sanity_check(names: list[str]) -> list[str]:
    start, end = names.index("on_sanity_check_start"), names.index("on_sanity_check_end")
    return names[: start + 1] + names[end:]


def test_loop_page_shows_the_order_of_a_run() -> None:
    page = names_on_the_page()
    recorder = Recorder()
    module = noting(recorder, [name for name in page if name not in HOOKS])

    quiet_trainer(callbacks=[recorder], num_sanity_val_steps=1).fit(module, TinyData(1), TinyData(1))

    calls = [name for name in recorder.names if not name.startswith("end of") and name not in OUTSIDE_THE_PAGE]
    transfer = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
    of_validation = [name for name in without_sanity_check(calls) if name not in transfer]
    assert of_validation == [name for name in page if name not in transfer]
    trained = calls[calls.index("on_train_epoch_start") :]
    assert tuple(trained[1:4]) == transfer
