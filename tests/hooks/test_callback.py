from __future__ import annotations

from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import HookManager
from trainkit.hooks.specs import HOOKS


class Keeps(Callback):
    def __init__(self, monitor: str, patience: int = 3) -> None:
        self.monitor, self.patience = monitor, patience

    @property
    def state_key(self) -> str:
        return self._state_key(monitor=self.monitor)


def test_a_callback_has_no_hook_until_it_writes_one() -> None:
    assert [name for name in HOOKS if hasattr(Callback(), name)] == []


def test_it_observes_unless_it_says_otherwise() -> None:
    class Persists(Callback):
        stage = "persist"

    assert Callback.stage == "observe"
    assert (Persists().stage, Callback().stage) == ("persist", "observe")


def test_its_stage_is_its_place_within_a_hook() -> None:
    class Decides(Callback):
        stage = "decide"

        def on_fit_start(self) -> None:
            pass

    class Observes(Callback):
        def on_fit_start(self) -> None:
            pass

    manager = HookManager()
    manager.register(Decides())
    manager.register(Observes())
    assert manager.order("on_fit_start") == ["Observes", "Decides"]


def test_its_state_is_kept_under_its_class_and_what_tells_two_of_one_class_apart() -> None:
    class Nested(Callback):
        pass

    assert Callback().state_key == "Callback"
    assert Nested().state_key.endswith("<locals>.Nested")
    assert Keeps("val/loss").state_key == Keeps("val/loss", patience=9).state_key == "Keeps{'monitor': 'val/loss'}"
    assert Keeps("val/loss").state_key != Keeps("val/accuracy").state_key
