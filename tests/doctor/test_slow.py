from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from trainkit import Trainer
from trainkit.callbacks import ModelCheckpoint
from trainkit.data.wait_meter import usable_cores
from trainkit.doctor import slow
from trainkit.doctor.report import Fact, Finding
from trainkit.doctor.speed import Seen
from trainkit.hooks.timing import TimingRow
from trainkit.testing import TinyModule
from trainkit.trainer.default_plugins import OWN_NAMES

SAMPLES: Any = [torch.zeros(4)] * 64


def seen(trainer: dict[str, Any] | None = None, module: TinyModule | None = None, **facts: Any) -> Seen:
    """What is seen of a run of which nothing is slow, but for what is given."""
    made = Trainer(accelerator="cpu", logger=False, **(trainer or {}))
    usual = {"loader": DataLoader(SAMPLES, 32), "batch_size": 32, "batches": 100, "first_s": 0.01, "load_s": 1e-4}
    return Seen(trainer=made, module=module or TinyModule(), **(usual | {"step_s": 0.05, "steps": 20} | facts))


def crowded() -> DataLoader[Any]:
    with warnings.catch_warnings(action="ignore"):  # torch says the same
        return DataLoader(SAMPLES, 32, num_workers=8 * usable_cores(), persistent_workers=True)


def found(what: Seen) -> list[Finding]:
    return [each for check in slow.CHECKS for each in check(what) if isinstance(each, Finding)]


def test_nothing_is_found_where_nothing_is_slow() -> None:
    assert found(seen()) == []


SLOW: dict[str, tuple[Seen, str]] = {
    "no workers": (seen(load_s=0.06), f"num_workers={usable_cores()}"),
    "no advice": (seen(load_s=9e-4, step_s=1e-3, compiles_step=True), "trainer.compile=step, or a larger batch_size"),
    "no advice, and no graph": (seen(load_s=9e-4, step_s=1e-3), "a larger batch_size"),
    "tiny steps": (seen(step_s=5e-4, compiles_step=True), "trainer.compile=step, or a larger batch_size"),
    "both tiny": (seen(load_s=4e-4, step_s=5e-4, compiles_step=True), "trainer.compile=step, or a larger batch_size"),
    "tiny and small": (seen(step_s=5e-4, batch_size=2, compiles_step=True), "trainer.compile=step"),
    "tiny steps with room": (seen(step_s=5e-4, used_bytes=1, total_bytes=10**9), "a larger batch_size"),
    "slower workers": (
        seen(loader=crowded(), load_s=3.7e-3, alone_s=8e-5, step_s=2e-3),
        "num_workers=0",
    ),
    "small batches": (seen(batch_size=2, step_s=5e-3), "a larger batch_size"),
    "room on the GPU": (seen(used_bytes=10**9, total_bytes=80 * 10**9), "a larger batch_size"),
    "plugin": (seen(plugins=[TimingRow(20, 0.2, plugin="Mine", hook="on_train_batch_end")]), "--no-plugin Mine"),
    "pinned for nobody": (seen(loader=DataLoader(SAMPLES, 32, pin_memory=True)), "pin_memory=False"),
    "too many workers": (
        seen(loader=crowded()),
        f"num_workers={usable_cores()}",
    ),
    "workers anew": (seen(loader=DataLoader(SAMPLES, 32, num_workers=1), first_s=2.0), "persistent_workers=True"),
    "float64": (seen(module=TinyModule().double()), "precision=32-true"),
    "anomalies": (seen({"detect_anomaly": True}), "leave it out"),
    "deterministic": (seen({"deterministic": True}), "leave it out"),
    "traced": (seen({"profiler": "torch"}), "leave it out"),
    "each step logged": (seen({"log_every_n_steps": 1}, step_s=5e-3), "log_every_n_steps=50"),
    "each step saved": (seen({"callbacks": [ModelCheckpoint(every_n_train_steps=1)]}), "every: 1000 steps"),
    "each batch saved": (seen({"callbacks": [ModelCheckpoint(every="1 batches")]}), "every: 1000 steps"),
}


@pytest.mark.parametrize(("what", "to_do"), SLOW.values(), ids=SLOW)
def test_what_is_slow_is_told_once_with_what_to_do(what: Seen, to_do: str) -> None:
    (told,) = found(what)
    assert told.level == "slow" and to_do in told.to_do


def test_data_on_another_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Folder(list[Any]):
        root = "/data/images"

    given = seen(loader=DataLoader(Folder(SAMPLES), 32))
    assert found(given) == []
    monkeypatch.setattr(slow, "file_system_of", lambda place: "nfs4")
    assert [each.what for each in found(given)] == ["the data in /data/images is on nfs4"]


def test_no_memory_is_to_be_pinned_for_a_cpu() -> None:
    (told,) = found(seen(load_s=0.06))
    assert "pin_memory" not in told.to_do


def test_nothing_is_said_of_plugins_of_the_core() -> None:
    for name in sorted(OWN_NAMES):
        assert found(seen(plugins=[TimingRow(20, 0.2, plugin=name, hook="on_train_batch_end")])) == []


def test_no_graph_is_advised_to_a_run_that_cannot_have_one() -> None:
    facts = st.fixed_dictionaries({"load_s": st.floats(1e-5, 1e-2), "step_s": st.floats(1e-5, 1e-2)})

    @given(facts=facts, size=st.integers(1, 64))
    @settings(deadline=None, max_examples=50)
    def check(facts: dict[str, Any], size: int) -> None:
        told = found(seen(**facts, batch_size=size))
        assert not any("compile" in each.to_do for each in told)
        # Nor is a larger batch advised twice.
        assert sum("batch_size" in each.to_do and "TensorLoader" not in each.to_do for each in told) <= 1

    check()


def test_workers_that_save_time_are_left_alone() -> None:
    loader = DataLoader(SAMPLES, 32, num_workers=1, persistent_workers=True)
    assert found(seen(loader=loader, load_s=0.02, alone_s=0.04, step_s=0.05)) == []


@pytest.mark.parametrize(("limit", "why"), [(0, "limit_train_batches=0"), (1.0, "no batch")])
def test_where_there_is_nothing_to_train_that_is_told(limit: Any, why: str) -> None:
    nothing = seen({"limit_train_batches": limit}, steps=0, step_s=None, load_s=None, first_s=None, loader=None)
    (fact,) = slow.speed(nothing)
    assert isinstance(fact, Fact) and "nothing to train" in fact.text and why in fact.text
    assert found(nothing) == []


def test_a_plugin_that_takes_little_is_not_told() -> None:
    assert found(seen(plugins=[TimingRow(20, 0.02, plugin="Mine", hook="on_train_batch_end")])) == []


@pytest.mark.parametrize(
    ("facts", "bound_by"),
    [
        ({"load_s": 0.2}, "the loader: it is waited for 80%"),
        ({"load_s": 1.08e-4, "step_s": 2.51e-4}, "the step, though the loader is not short: it is waited for 30%"),
        ({}, "the step"),
        ({"load_s": None}, ""),
        ({"step_s": None}, ""),
    ],
)
def test_the_page_says_which_of_them_is_longer(facts: dict[str, Any], bound_by: str) -> None:
    told = {each.about: each.text for each in slow.speed(seen(**facts)) if isinstance(each, Fact)}
    assert told.get("bound by", "").removesuffix(" of the time") == bound_by
