"""The check of what every profiler must keep."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trainkit.profilers.base import Profiler
from trainkit.testing.callback_contract import check_callback
from trainkit.testing.compare import assert_same_weights
from trainkit.testing.tiny import TinyData, TinyModule, quiet_trainer

WIDTH = 80
"""Columns of a summary, at most."""


def check_profiler(make: Callable[[], Profiler], folder: Path) -> None:
    """Check that a profiler keeps the promises of all profilers.

    It is a callback that keeps theirs, it changes nothing in a run, a block of the user's own runs once in `profile`
    and may raise, and the summary is text of 80 columns, in two fits of one Trainer and after a fit that has failed.

    Args:
        make: Returns a new profiler at each call.
        folder: An empty folder, such as ``tmp_path`` of pytest.

    Raises:
        AssertionError: If a promise is broken; says which. Errors of the profiler itself are raised as they are.
    """
    profiler = make()
    assert isinstance(profiler, Profiler), f"make() gives a {type(profiler).__name__}, which is no Profiler"
    _check_blocks(make())
    _check_runs(profiler, folder)
    check_callback(make, default_root_dir=str(folder))


def _check_blocks(profiler: Profiler) -> None:
    done = []
    with profiler.profile("outer"), profiler.profile("inner"):
        done.append("once")
    try:
        with profiler.profile("fails"):
            raise LookupError
    except LookupError:
        done.append("raised")
    assert done == ["once", "raised"], "profile() does not run its block once, or swallows what it raises"


def _check_runs(profiler: Profiler, folder: Path) -> None:
    measured, plain, data = TinyModule(), TinyModule(), TinyData(24)
    plain.load_state_dict(measured.state_dict())
    trainer = quiet_trainer(max_epochs=1, profiler=profiler, default_root_dir=str(folder))
    assert trainer.profiler is profiler, "the Trainer has another profiler than it was given"
    trainer.fit(measured, data, data)
    quiet_trainer(max_epochs=1).fit(plain, data, data)
    assert_same_weights(measured, plain)
    _check_summary(profiler)
    trainer.max_epochs = 3
    with suppress(_Fails):
        trainer.fit(_FailingModule(), data)
    trainer.fit(measured, data)
    _check_summary(profiler)


def _check_summary(profiler: Profiler) -> None:
    text = profiler.summary()
    assert isinstance(text, str), f"summary() returns a {type(text).__name__}, and not text"
    # A path is as long as it is, on a line of its own.
    wide = [line for line in text.splitlines() if len(line) > WIDTH and " " in line.strip()]
    assert not wide, f"a line of the summary is wider than {WIDTH} columns: {wide[0]!r}"


class _Fails(Exception):
    pass


class _FailingModule(TinyModule):
    def on_train_batch_end(self) -> None:
        raise _Fails
