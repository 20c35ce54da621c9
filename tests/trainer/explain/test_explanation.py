from __future__ import annotations

from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.explain.page import page


def test_as_text_it_is_its_page() -> None:
    told = quiet_trainer(max_epochs=1).explain(TinyModule(), TinyData(2))
    assert str(told) == page(told)
