from __future__ import annotations

import sys
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from trainkit.strategies.ranks.places import AHEAD, place_of, waits_for_ranks
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Looking:
    """Looks where it stands."""

    def __init__(self) -> None:
        self.text = ""

    def on_train_batch_end(self) -> None:
        self.text = place_of(sys._getframe(), exchanges=True).text


def test_a_place_names_the_hook_of_the_plugin_and_the_line():
    looking = Looking()
    quiet_trainer(callbacks=[looking]).fit(TinyModule(), TinyData(1))
    assert looking.text.startswith("is busy, in Looking.on_train_batch_end (at test_places.py:")


def frame_of_backward() -> FrameType:
    found = []
    weight = torch.ones(1, requires_grad=True)
    weight.register_hook(lambda _: found.append(sys._getframe(1)))
    (weight * 2).sum().backward()
    return found[0]


def test_a_backward_waits_only_where_gradients_are_exchanged():
    frame = frame_of_backward()
    assert place_of(frame, exchanges=True).text.startswith("waits for the gradients of the others")
    assert [place_of(frame, exchanges=exchanges).waits for exchanges in (True, False)] == [True, False]


def test_ranks_wait_for_each_other_where_ddp_exchanges_ahead_of_a_step(monkeypatch: pytest.MonkeyPatch):
    found: list[FrameType] = []
    monkeypatch.setattr(dist, "_broadcast_coalesced", lambda *arguments: found.append(sys._getframe(1)))
    exchange = DistributedDataParallel._distributed_broadcast_coalesced
    exchange(cast(Any, SimpleNamespace(process_group=None)), [], 0, 0)
    place = place_of(found[0], exchanges=False)
    assert place.waits
    assert place.text.startswith(f"{AHEAD} (at test_places.py:")


def test_whoever_runs_something_else_does_not_wait():
    assert not place_of(None, exchanges=True).waits
    assert not waits_for_ranks(sys._getframe())


def frame_in(module: str) -> FrameType:
    """Return the frame of a function of ``module``, beneath which torch is waiting."""
    scope = {"__name__": module, "look": sys._getframe, "__builtins__": __builtins__}
    exec("def finish():\n    return look(0)", scope)
    return scope["finish"]()


def test_waits_beneath_python_are_found_by_who_has_called_torch():
    averaging = place_of(frame_in("trainkit.strategies.flat_gradients"), exchanges=False)
    assert (averaging.waits, averaging.text.startswith("waits for the gradients of the others")) == (True, True)
    wrapper = place_of(frame_in("torch.nn.parallel.distributed"), exchanges=False)
    assert (wrapper.waits, wrapper.text.startswith("waits in DistributedDataParallel")) == (True, True)
    assert not place_of(frame_in("somewhere.else"), exchanges=True).waits
