"""What ranks are given to do is compared; with real ranks in tests/strategies/ranks/test_rank_group.py."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from trainkit import Callback
from trainkit.callbacks import Timer
from trainkit.errors import RankError
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.trainer.same_run import require_same_run


class Own(Callback):
    """A plugin of a user."""


def call_of(**arguments: Any) -> Any:
    """Return a call of a fit as the comparison sees it, with what it tells of itself."""
    trainer = quiet_trainer(**arguments)
    trainer.fit(TinyModule(), TinyData(1))
    told: list[Any] = []
    gather: Callable[[Any], Any] = lambda value: told.append(value) or [value]  # noqa: E731
    strategy = SimpleNamespace(
        name="ddp", devices=(0,), is_distributed=True, is_global_zero=True, ranks=SimpleNamespace(gather=gather)
    )
    call = SimpleNamespace(
        strategy=strategy,
        arguments=trainer.arguments,
        registry=trainer.hooks,
        stage="fit",
        module=trainer.module,
        precision=trainer.precision,
        told=told,
    )
    require_same_run(call)
    return call


def compare(*calls: Any) -> None:
    calls[0].strategy.ranks.gather = lambda _: [each.told[0] for each in calls]
    require_same_run(calls[0])


def test_equal_ranks_pass_also_where_one_alone_shows_something():
    compare(call_of(), call_of(enable_progress_bar=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_epochs": 2}, "max_epochs   1 on rank 0, 2 on rank 1"),
        ({"precision": "64-true"}, "precision    32-true on rank 0, 64-true on rank 1"),
        ({"callbacks": [Timer()]}, "plugins .* on rank 0, .*Timer on rank 1"),
    ],
)
def test_what_differs_is_named_with_the_value_of_each_rank(arguments: dict[str, Any], message: str):
    with pytest.raises(RankError, match=message):
        compare(call_of(), call_of(**arguments))


def test_a_plugin_of_a_user_on_one_rank_is_told():
    with pytest.warns(UserWarning, match=r"rank 1 has the plugins \['Own'\], and rank 0 has \[\]"):
        compare(call_of(), call_of(callbacks=[Own()]))
