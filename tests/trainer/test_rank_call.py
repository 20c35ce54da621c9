"""One rank's part in a call; how the others hear of it is in tests/strategies/ranks/test_rank_group.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trainkit.trainer.rank_call import tell_ranks


@pytest.mark.parametrize(
    ("notes", "text"),
    [
        ([], "has left trainer.fit() after 3 batches: ValueError: no"),
        (["in plugin 'Own' (own), hook setup"], "ValueError: no, in plugin 'Own' (own), hook setup"),
    ],
)
def test_the_others_are_told_what_has_ended_the_call_and_in_which_plugin(notes: list[str], text: str):
    told: list[str] = []
    ranks = SimpleNamespace(watch=SimpleNamespace(leave_call=told.append))
    call: Any = SimpleNamespace(
        strategy=SimpleNamespace(is_distributed=True, ranks=ranks),
        stage="fit",
        progress=SimpleNamespace(total_batches=3),
    )
    error = ValueError("no")
    for note in notes:
        error.add_note(note)
    tell_ranks(call, error)
    assert told[0].endswith(text)
