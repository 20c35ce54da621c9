from __future__ import annotations

import subprocess
import sys

import pytest

from trainkit.callbacks import Callback
from trainkit.errors import HookError, RankError
from trainkit.testing import check_callback


class Counts(Callback):
    """A callback that keeps its promises."""

    def __init__(self):
        self.batches = 0

    def on_train_batch_end(self):
        self.batches += 1

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state):
        self.batches = state["batches"]


def test_a_good_callback_passes():
    check_callback(Counts)


def test_a_misspelt_hook_is_found():
    class Misspelt(Callback):
        def on_train_batch_ned(self):
            pass

    with pytest.raises(HookError, match="on_train_batch_end"):
        check_callback(Misspelt)


def test_a_state_that_is_forgotten_is_found():
    class Forgets(Counts):
        def load_state_dict(self, state):
            pass

    with pytest.raises(AssertionError, match="batches"):
        check_callback(Forgets)


def test_a_state_that_does_not_load_safely_is_found():
    class Unsafe(Counts):
        def state_dict(self):
            return {"batches": Counts}

    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        check_callback(Unsafe)


def test_half_of_the_state_methods_is_found():
    class Half(Callback):
        def state_dict(self):
            return {}

    with pytest.raises(AssertionError, match="needs both or neither"):
        check_callback(Half)


def test_a_state_key_that_changes_is_found():
    class Drifts(Counts):
        @property
        def state_key(self):
            return f"drifts {id(self)}"

    with pytest.raises(AssertionError, match="state keys"):
        check_callback(Drifts)


def test_a_callback_that_breaks_in_a_run_is_found():
    class Breaks(Callback):
        def on_test_end(self):
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        check_callback(Breaks)


@pytest.mark.slow
def test_importing_it_imports_no_test_framework():
    code = "import sys, trainkit.testing; print({'pytest', 'hypothesis'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"


class Meets:
    """All ranks exchange something in a hook; with `forgets`, not all do."""

    forgets = False

    def on_train_epoch_end(self, trainer):
        if not self.forgets or trainer.is_global_zero:
            trainer.strategy.all_gather_object(trainer.global_step)


class Forgets(Meets):
    forgets = True


@pytest.mark.slow
@pytest.mark.distributed
def test_a_callback_is_tried_on_two_ranks() -> None:
    check_callback(Meets, ranks=2)
    with pytest.raises(RankError):
        check_callback(Forgets, ranks=2)
