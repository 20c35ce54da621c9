"""Time spent in plugins: seconds and calls for each plugin and hook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainkit.hooks.bound import BoundHooks, HookCall
from trainkit.hooks.specs import STEP_HOOKS
from trainkit.hooks.stopwatch import Spent, Stopwatch

OF_STEPS = STEP_HOOKS | {"on_train_batch_start", "on_train_batch_end", "on_clip_gradients"}
"""The hooks that are called at each training batch."""


@dataclass(slots=True)
class TimingRow(Spent):
    """The time that one plugin has taken in one hook.

    What other plugins do in hooks that it calls is theirs, and of a wrapper what it runs around is not its own either.
    Work that an accelerator still has to do is not waited for.

    Attributes:
        plugin: The plugin's name.
        hook: The hook's name.
    """

    plugin: str = ""
    hook: str = ""


class HookTimer:
    """Measures how long plugins take. Until it is enabled, no call is timed, and none is slower for it.

    Args:
        on_enable: Called when it is enabled. Has to bind all hooks anew, so that each function is replaced by `timed`.

    Attributes:
        watch: What measures.
        enabled: Whether calls are timed; `enable` sets it.
        owner: The plugin that measures, which is left out itself; None if there is none.
    """

    def __init__(self, on_enable: Callable[[], None]) -> None:
        self.watch = Stopwatch()
        self.enabled = False
        self.owner: object = None
        self._on_enable = on_enable
        self._samples = self._in_sample = False
        self._both: dict[str, tuple[HookCall, HookCall]] = {}  # by hook, without a clock and with it
        self._rows: dict[tuple[str, str], TimingRow] = {}

    def enable(self, owner: object = None) -> None:
        """Time every plugin but ``owner``, from the next call of each hook on."""
        if not self.enabled:
            self.enabled, self.owner = True, owner
            self._on_enable()

    def sample(self, on: bool) -> None:
        """Time the hooks of training batches in some steps only: where `step_in_sample` says so."""
        if self._samples is not on:
            self._samples, self._in_sample = on, False
            self._on_enable()

    def samples(self, hook: str) -> bool:
        """Whether ``hook`` is timed in some steps only."""
        return self.enabled and self._samples and hook in OF_STEPS

    def choose(self, hook: str, plain: HookCall, timed: HookCall) -> HookCall:
        """Return which of the two functions of a hook that is sampled is to be called now, and keep both."""
        self._both[hook] = plain, timed
        return timed if self._in_sample else plain

    def step_in_sample(self, hooks: BoundHooks, on: bool) -> None:
        """Begin or end a step that is timed: put the functions of the hooks of steps in place.

        Args:
            hooks: Where.
            on: Whether it begins.
        """
        self._in_sample = on
        for hook, calls in self._both.items():
            # Past `rebind`: nobody has come or gone.
            setattr(hooks, hook, calls[on])

    def clear(self) -> None:
        """Begin anew: nothing was measured."""
        self.watch.clear()
        for row in self._rows.values():  # which functions hold that are bound
            row.clear()

    def rows(self) -> list[TimingRow]:
        """Return the rows of plugins that were called, the longest time first."""
        return sorted((row for row in self._rows.values() if row.calls), key=lambda row: -row.seconds)

    def timed(self, function: Callable[..., Any], plugin: str, hook: str, *, is_wrapper: bool) -> Callable[..., Any]:
        """Return ``function`` so that each call is counted and timed."""
        # The row is looked up here, once per binding. A hook that is bound anew continues its row.
        row = self._rows.setdefault((plugin, hook), TimingRow(plugin=plugin, hook=hook))
        make = self.watch.timed_generator if is_wrapper else self.watch.timed
        return make(function, row, sampled=self.samples(hook))
