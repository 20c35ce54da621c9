"""The callbacks of a module are in the run for one call."""

from __future__ import annotations

import pytest

from trainkit.testing import TinyData, TinyModule, quiet_trainer


def test_callbacks_of_the_module_are_there_for_one_call():
    class OfModule:
        pass

    class Module(TinyModule):
        def configure_callbacks(self):
            return [OfModule()]

    class Looks:
        def setup(self, trainer):
            seen.append([type(callback).__name__ for callback in trainer.callbacks])

    seen, looks = [], Looks()
    trainer = quiet_trainer(callbacks=[looks])
    trainer.fit(Module(), TinyData(1))
    assert seen == [["Looks", "OfModule"]]
    assert trainer.callbacks == [looks]


def test_callbacks_of_the_module_are_there_while_an_error_is_told_of():
    class OfModule:
        pass

    class Module(TinyModule):
        def configure_callbacks(self):
            return [OfModule()]

        def training_step(self, batch, batch_idx):
            raise RuntimeError("broken")

    class Looks:
        def on_exception(self, trainer):
            seen.append([type(callback).__name__ for callback in trainer.callbacks])

    seen = []
    with pytest.raises(RuntimeError, match="broken"):
        quiet_trainer(callbacks=[Looks()]).fit(Module(), TinyData(1))
    assert seen == [["Looks", "OfModule"]]
