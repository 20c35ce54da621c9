"""What a Trainer tells of where its run is."""

from __future__ import annotations

from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer
from trainkit.types import Phase, Stage


def test_a_state_tells_what_was_asked_for_and_what_runs():
    recorder = Recorder(
        ["on_fit_start", "on_train_batch_start", "on_validation_start", "on_sanity_check_start"],
        look=lambda trainer, module: (trainer.state.fn, trainer.state.stage, trainer.evaluating),
    )
    trainer = quiet_trainer(callbacks=[recorder], num_sanity_val_steps=1)
    assert (trainer.state.fn, trainer.state.stage) == (None, None)
    trainer.fit(TinyModule(), TinyData(1), TinyData(1))
    assert [(call.hook, call.seen) for call in recorder.calls] == [
        ("on_fit_start", (Stage.FIT, Phase.TRAIN, False)),
        ("on_sanity_check_start", (Stage.FIT, Phase.SANITY_CHECK, True)),
        ("on_validation_start", (Stage.FIT, Phase.SANITY_CHECK, True)),
        ("on_train_batch_start", (Stage.FIT, Phase.TRAIN, False)),
        ("on_validation_start", (Stage.FIT, Phase.VALIDATE, True)),
    ]
    assert (trainer.state.fn, trainer.state.stage, trainer.state.finished) == (Stage.FIT, None, True)


def test_what_is_prepared_counts_as_running_whatever_ran_before():
    recorder = Recorder(["setup"], look=lambda trainer, module: trainer.state.stage)
    trainer = quiet_trainer(callbacks=[recorder])
    trainer.fit(TinyModule(), TinyData(1))
    trainer.validate(TinyModule(), TinyData(1), verbose=False)
    assert [call.seen for call in recorder.calls] == [Phase.TRAIN, Phase.VALIDATE]


def test_a_wish_to_stop_belongs_to_its_call():
    class Stops:
        def on_train_batch_end(self, trainer):
            trainer.should_stop = True

    trainer = quiet_trainer(max_epochs=5, callbacks=[Stops()])
    trainer.fit(TinyModule(), TinyData(3))
    assert trainer.should_stop
    assert trainer.global_step == 1
    trainer.validate(TinyModule(), TinyData(1), verbose=False)
    assert not trainer.should_stop
