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
