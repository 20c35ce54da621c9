"""What a Trainer tells of its data."""

from __future__ import annotations

import math

from trainkit.testing import TinyData, TinyModule, quiet_trainer


def test_the_length_of_an_epoch_is_infinite_where_nobody_knows_it():
    trainer = quiet_trainer()
    assert trainer.num_training_batches == math.inf
    trainer.validate(TinyModule(), TinyData(2), verbose=False)
    assert trainer.num_training_batches == math.inf
    trainer.fit(TinyModule(), TinyData(3))
    assert trainer.num_training_batches == 3


def test_a_meter_that_is_added_measures_the_next_pass():
    class Counts:
        passes = 0

        def measure(self, batches, loader):
            self.passes += 1
            return batches

        def on_train_epoch_start(self, trainer):
            if trainer.current_epoch == 1:
                trainer.batch_meters.append(self)

    counts = Counts()
    trainer = quiet_trainer(max_epochs=3, callbacks=[counts])
    assert trainer.batch_meters == []
    trainer.fit(TinyModule(), TinyData(2))
    assert counts.passes == 2
