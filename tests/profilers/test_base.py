from __future__ import annotations

import pytest

from trainkit.profilers import Profiler
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def test_the_base_measures_nothing_and_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = quiet_trainer(max_epochs=1)
    with trainer.profiler.profile("mine"):
        pass
    trainer.fit(TinyModule(), TinyData(1))
    assert type(trainer.profiler) is Profiler and not trainer.hooks.is_registered(trainer.profiler)
    assert capsys.readouterr().out == ""


def test_what_a_profiler_has_found_is_told_when_a_call_has_ended_well(capsys: pytest.CaptureFixture[str]) -> None:
    told = []

    class Counts(Profiler):
        batches = 0

        def on_train_batch_end(self) -> None:
            self.batches += 1
            if self.batches == 5:
                raise LookupError

        def gather(self, trainer: object) -> None:
            told.append("gather")

        def summary(self) -> str:
            told.append("summary")
            return f"{self.batches} batches"

    trainer = quiet_trainer(max_epochs=-1, max_steps=3, profiler=Counts())
    trainer.fit(TinyModule(), TinyData(3))
    assert told == ["gather", "summary"]
    assert capsys.readouterr().out == "3 batches\n"
    trainer.max_steps = 9
    with pytest.raises(LookupError):
        trainer.fit(TinyModule(), TinyData(3))
    assert capsys.readouterr().out == ""


def test_what_only_looks_at_a_run_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = quiet_trainer(max_epochs=1, profiler="simple")
    trainer.explain(TinyModule(), TinyData(3))
    assert capsys.readouterr().out == ""
    assert trainer.timing is None
