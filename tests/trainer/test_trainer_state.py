"""What a Trainer says that it is doing."""

from __future__ import annotations

from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.types import Phase, Stage


class Looks:
    """Notes what a Trainer tells of its call in each hook."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def setup(self, trainer):
        self.seen.append(("setup", self.look(trainer)))

    def on_fit_start(self, trainer):
        self.seen.append(("on_fit_start", self.look(trainer)))

    def teardown(self, trainer):
        self.seen.append(("teardown", self.look(trainer)))


def test_the_status_follows_the_call():
    looks = Looks(lambda trainer: (trainer.state.status, trainer.state.fn, trainer.state.stage))
    trainer = quiet_trainer(callbacks=[looks])
    assert (trainer.state.status, trainer.state.fn, trainer.state.stage) == ("initializing", None, None)
    trainer.fit(TinyModule(), TinyData(2))
    training = ("running", Stage.FIT, Phase.TRAIN)
    assert looks.seen == [("setup", training), ("on_fit_start", training), ("teardown", training)]
    assert (trainer.state.status, trainer.state.fn, trainer.state.stage) == ("finished", Stage.FIT, None)


def test_a_state_that_was_kept_follows_its_call():
    kept = []

    class Keeps:
        def on_fit_start(self, trainer):
            kept.append(trainer.state)

    trainer = quiet_trainer(callbacks=[Keeps()])
    trainer.fit(TinyModule(), TinyData(1))
    assert kept[0].finished
    assert kept[0].stopped
