from __future__ import annotations

from types import SimpleNamespace

import pytest

from trainkit.trainer.default_weights import best_of_the_last_fit
from trainkit.types import Stage


@pytest.mark.parametrize(
    ("fast_dev_run", "callback"),
    [(True, SimpleNamespace(best_model_path="a.ckpt")), (False, SimpleNamespace(best_model_path="")), (False, None)],
)
def test_the_module_as_it_stands_where_nothing_was_ranked(fast_dev_run, callback):
    trainer = SimpleNamespace(fast_dev_run=fast_dev_run, checkpoint_callback=callback)
    assert best_of_the_last_fit(trainer, Stage.TEST) is None


def test_the_best_checkpoint_otherwise_which_is_told():
    trainer = SimpleNamespace(fast_dev_run=False, checkpoint_callback=SimpleNamespace(best_model_path="a.ckpt"))
    with pytest.warns(UserWarning, match=r"pass it: trainer.test\(module, ...\)"):
        assert best_of_the_last_fit(trainer, Stage.TEST) == "best"
