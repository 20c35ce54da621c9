from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import torch

from trainkit.seed import rng_state
from trainkit.testing import TinyData, TinyModule, quiet_trainer
from trainkit.testing.held import LARGEST, Held, held
from trainkit.testing.trace import digest


class Part:
    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    @property
    def never(self) -> None:
        raise AssertionError("a property was called")


class Owner(TinyModule):
    def __init__(self, **values: Any) -> None:
        super().__init__()
        self.part = Part(**values)


def of(module: TinyModule) -> dict[str, Held]:
    """Return what is held by the part of a module when its training has ended, by name."""
    trainer = quiet_trainer()
    trainer.fit(module, TinyData(1))
    return {each.name: each for each in held(trainer, module) if each.name.startswith("Owner.part")}


def test_parameters_and_what_every_module_has_are_left_out() -> None:
    module, trainer = Owner(), quiet_trainer()
    trainer.fit(module, TinyData(1))
    assert {each.name for each in held(trainer, module) if each.owner == "module"} == {"Owner.lr"}


def test_it_changes_nothing_and_calls_no_property() -> None:
    module = Owner(generator=torch.Generator(), random=random.Random(), values=[1, 2])
    trainer = quiet_trainer()
    trainer.fit(module, TinyData(1))
    before, own = digest(rng_state()), module.part.random.getstate()
    first, second = ([digest(each.value) for each in held(trainer, module)] for _ in range(2))
    assert first == second
    assert digest(rng_state()) == before
    assert module.part.random.getstate() == own


def test_objects_that_hold_each_other_are_entered_once() -> None:
    module = Owner(count=1)
    module.part.other = Part(back=module.part, count=2)
    found = of(module)
    assert {name: each.shown for name, each in found.items()} == {
        "Owner.part.count": "1",
        "Owner.part.other.count": "2",
    }


def test_large_values_are_looked_at_in_part_and_shown_by_their_size() -> None:
    found = of(Owner(values=list(range(10_000)), tensor=torch.zeros(100_000)))
    assert found["Owner.part.values"].shown == "10000 entries"
    assert len(found["Owner.part.values"].value) <= 501
    assert found["Owner.part.tensor"].shown == "values of shape [100000]"
    assert found["Owner.part.tensor"].value.numel() <= LARGEST


def test_objects_of_the_standard_library_are_not_entered() -> None:
    assert [name for name in of(Owner(space=SimpleNamespace(count=1))) if "space" in name] == []
