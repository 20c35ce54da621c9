"""Every hook that is declared is called, and heard by a plugin that joins no other, in whatever step."""

from __future__ import annotations

import pytest

from trainkit.errors import CompileError
from trainkit.hooks.specs import HOOKS, STEP_HOOKS
from trainkit.testing import Recorder, TinyData, TinyModule, quiet_trainer

NEEDS_MORE = {"on_exception", "on_load_checkpoint", "on_log"}
"""Hooks of what does not happen in these calls."""


class Module(TinyModule):
    def predict_step(self, batch):
        return self(batch[0])


def calls_of(plugin, folder, **arguments):
    trainer, module, data = quiet_trainer(callbacks=[plugin], **arguments), Module(), TinyData(4)
    trainer.fit(module, data, TinyData(2))
    trainer.save_checkpoint(folder / "file.ckpt")
    trainer.test(module, TinyData(2), verbose=False)
    trainer.predict(module, TinyData(2))


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    recorder = Recorder()
    calls_of(recorder, tmp_path_factory.mktemp("all"), gradient_clip_val=1.0, num_sanity_val_steps=1)
    return recorder.names


@pytest.mark.parametrize("hook", sorted(set(HOOKS) - NEEDS_MORE))
def test_a_hook_is_heard_by_a_plugin_that_joins_no_other(hook, expected, tmp_path):
    recorder = Recorder(only=[hook])
    calls_of(recorder, tmp_path, num_sanity_val_steps=1)
    assert expected.count(hook) > 0, "no loop calls it"
    assert recorder.names.count(hook) == expected.count(hook)


@pytest.mark.slow
@pytest.mark.parametrize("hook", sorted(STEP_HOOKS))
def test_a_hook_within_a_step_is_heard_or_refused_where_the_step_is_compiled(hook, expected, tmp_path):
    recorder = Recorder(only=[hook])
    try:
        quiet_trainer(callbacks=[recorder], compile="step").fit(Module(), TinyData(4))
    except CompileError as error:
        assert hook in str(error)
    else:
        assert recorder.names.count(hook) == 4
