"""The state of a plugin that a run does not have is in its checkpoints as it was, for a run that has it again."""

from __future__ import annotations

import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.tensor import DTensor

from tests.installed import Site
from trainkit.callbacks import Callback, EarlyStopping, EMAWeightAveraging
from trainkit.checkpoint.absent_plugins import Absent, keep_absent, states_of_all
from trainkit.storage.files import read_checkpoint
from trainkit.testing import TinyData, TinyModule, assert_same_state, quiet_trainer, run_on_ranks

COUNTS = """
import torch

class Counts:
    def __init__(self, step=1):
        self.step, self.seen = step, torch.zeros(3, dtype=torch.float64)

    def on_train_batch_end(self):
        self.seen += torch.rand(3, dtype=torch.float64) * self.step

    def state_dict(self):
        return {"seen": self.seen.clone(), "count": [self.step]}

    def load_state_dict(self, state):
        self.seen = state["seen"].clone()

class Keyed(Counts):
    state_key = "keyed"

class Renamed(Counts):
    state_key = "Counts"
"""


@pytest.fixture
def packages(site: Site) -> dict[str, Any]:
    """Two packages, each with a class of one name."""
    for name in ("left", "right"):
        site.install(f"{name}-counts", "1.5", "", **{f"{name}_counts": COUNTS})
    import left_counts  # type: ignore[import-not-found]  # installed above
    import right_counts  # type: ignore[import-not-found]

    return {"left": left_counts, "right": right_counts}


def fit(plugins: list[Any], path: Path, to: Path, epochs: int) -> list[Any]:
    """Go on from ``path``, if it is there; return the states with which that began."""
    began = []

    class Sees:
        stage = "setup"

        def on_train_start(self) -> None:
            began.extend(plugin.state_dict() for plugin in plugins)

    trainer = quiet_trainer(callbacks=[*plugins, Sees()], max_epochs=epochs)
    trainer.fit(TinyModule(), TinyData(2), ckpt_path=path if path.exists() else None)
    trainer.save_checkpoint(to)
    return began


@pytest.mark.parametrize("seed", range(6))
def test_over_a_chain_of_runs_each_has_the_state_that_it_last_had(
    seed: int, packages: dict[str, Any], tmp_path: Path
) -> None:
    draw = random.Random(seed)
    left, right = packages["left"], packages["right"]
    makes = {
        "left": left.Counts,
        "right": right.Counts,
        "left, by key": left.Keyed,
        "right, by key": right.Keyed,
        "own": Own,
    }
    last: dict[str, Any] = {}
    for run in range(5):
        names = draw.sample(sorted(makes), draw.randint(0, 5))
        plugins = {name: makes[name]() for name in names}
        fresh = {name: plugin.state_dict() for name, plugin in plugins.items()}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the checkpoint has states of plugins")
            began = fit(list(plugins.values()), tmp_path / f"{run}.ckpt", tmp_path / f"{run + 1}.ckpt", run + 1)
        for name, state in zip(plugins, began, strict=True):
            assert_same_state(state, last.get(name, fresh[name]), where=f"run {run}, {names}: {name}")
        last |= {name: plugin.state_dict() for name, plugin in plugins.items()}


@pytest.mark.parametrize("seed", range(10))
def test_over_a_chain_of_runs_namesakes_and_renamed_ones_have_their_own(
    seed: int, packages: dict[str, Any], tmp_path: Path
) -> None:
    draw = random.Random(seed)
    owners = {name: vars(package) for name, package in packages.items()} | {"script": script()}
    # Two of one class are told apart by their order alone, which stays: both are in a run, or none.
    whose = ["left", "right", "script", "left"]
    last: dict[str, Any] = {}
    for run in range(5):
        # All at first: a state of no package may else be taken for that of a class that was moved into one since.
        drawn = draw.sample(range(3), 3 if run == 0 else draw.randint(1, 3))
        if 0 in drawn:
            drawn.insert(draw.randint(drawn.index(0) + 1, len(drawn)), 3)
        names = [f"{whose[each]} {each}" for each in drawn]
        kinds = {owner: draw.choice(["Counts", "Renamed"]) for owner in sorted(owners)}
        plugins = {name: owners[name.split()[0]][kinds[name.split()[0]]]() for name in names}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the checkpoint has states of plugins")
            began = fit(list(plugins.values()), tmp_path / f"{run}.ckpt", tmp_path / f"{run + 1}.ckpt", run + 1)
        for name, state in zip(plugins, began, strict=True):
            assert run == 0 or torch.equal(state["seen"], last[name]["seen"]), f"run {run}, {names}, {kinds}: {name}"
        last |= {name: plugin.state_dict() for name, plugin in plugins.items()}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("left.Counts script.Counts", "script.Counts left.Counts"),
        ("script.Counts", "left.Counts script.Counts"),
        ("left.Counts script.Counts", "script.Counts"),
        ("left.Counts right.Counts", "right.Counts script.Counts left.Counts"),
        ("right.Counts left.Counts", "right.Counts left.Renamed"),
        ("left.Renamed", "right.Counts left.Counts"),
        ("left.Counts script.Counts", "left.Counts script.Renamed"),
        ("script.Renamed", "left.Counts script.Counts"),
        ("script.Counts", "left.Counts"),  # moved into a package
    ],
)
def test_a_state_goes_to_a_plugin_of_the_same_origin_first(
    before: str, after: str, packages: dict[str, Any], tmp_path: Path
) -> None:
    owners = {name: vars(package) for name, package in packages.items()} | {"script": script()}
    split = {text: [name.split(".") for name in text.split()] for text in (before, after)}
    plugins = [owners[owner][name]() for owner, name in split[before]]
    fit(plugins, tmp_path / "none", tmp_path / "1.ckpt", 1)
    held = {owner: plugin.seen for (owner, _), plugin in zip(split[before], plugins, strict=True)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the checkpoint has states of plugins")
        began = fit(
            [owners[owner][name]() for owner, name in split[after]], tmp_path / "1.ckpt", tmp_path / "2.ckpt", 2
        )
    if after == "left.Counts":
        held = {"left": held["script"]}
    for (owner, _), state in zip(split[after], began, strict=True):
        assert torch.equal(state["seen"], held.get(owner, torch.zeros(3, dtype=torch.float64))), owner


def script() -> dict[str, Any]:
    """Return the same classes, of no package."""
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(COUNTS, namespace)
    return namespace


@pytest.mark.parametrize("order", [[(1, 10), (10,), (1,)], [(1, 10), (1,), (10,), (10, 1)], [(1, 10), (), (10, 1)]])
def test_of_two_of_one_class_each_has_its_own_after_runs_without_the_other(
    order: list[tuple[int, ...]], packages: dict[str, Any], tmp_path: Path
) -> None:
    class Counts(Callback, packages["left"].Counts):  # type: ignore[misc]  # made above
        pass

    last: dict[int, Any] = {}
    for run, steps in enumerate(order):
        plugins = [Counts(step) for step in steps]
        began = fit(plugins, tmp_path / f"{run}.ckpt", tmp_path / f"{run + 1}.ckpt", run + 1)
        for step, state in zip(steps, began, strict=True):
            assert run == 0 or torch.equal(state["seen"], last[step]["seen"]), (run, step)
        last |= {step: plugin.state_dict() for step, plugin in zip(steps, plugins, strict=True)}


def test_a_run_without_the_plugin_says_so_once_by_package_and_version(packages: dict[str, Any], tmp_path: Path) -> None:
    fit([packages["left"].Counts(), packages["right"].Counts(), Own()], tmp_path / "none", tmp_path / "1.ckpt", 1)
    with pytest.warns(UserWarning) as caught:
        fit([], tmp_path / "1.ckpt", tmp_path / "2.ckpt", 2)
    assert [str(each.message) for each in caught] == [
        "the checkpoint has states of plugins that are not in this run: Counts (left-counts 1.5), Counts (right-counts "
        "1.5). They stay as they are in the checkpoints that this run saves, for a run that has the plugins again."
    ]
    first, second = read_checkpoint(tmp_path / "1.ckpt"), read_checkpoint(tmp_path / "2.ckpt")
    for key in ("Counts", "Counts-2", "Own"):
        assert_same_state(second["callbacks"][key], first["callbacks"][key])
    assert second["trainkit"]["origins"] == first["trainkit"]["origins"]


def test_a_class_that_was_renamed_within_its_package_says_so_by_its_key(
    packages: dict[str, Any], tmp_path: Path
) -> None:
    left, right = packages["left"], packages["right"]
    plugin = left.Counts()
    fit([plugin], tmp_path / "none", tmp_path / "1.ckpt", 1)
    (began,) = fit([left.Renamed()], tmp_path / "1.ckpt", tmp_path / "2.ckpt", 2)
    assert_same_state(began, plugin.state_dict())
    # A key says what a state is within a package, and not whose it is.
    with pytest.warns(UserWarning, match="left-counts 1.5"):
        (began,) = fit([right.Renamed()], tmp_path / "1.ckpt", tmp_path / "2.ckpt", 2)
    assert_same_state(began, right.Renamed().state_dict())


def fit_sharded(folder: Path, run: int, has_average: bool) -> dict[str, Any]:
    """Go on from the run before, on a rank of several, and return what the average holds when that begins."""
    began: dict[str, Any] = {}

    class Sees:
        stage = "persist"

        def on_train_start(self, trainer: Any) -> None:
            for name, value in average.state_dict().get("average", {}).items() if has_average else ():
                began[name] = (value.full_tensor() if isinstance(value, DTensor) else value).clone()

    average = EMAWeightAveraging(decay=0.5)
    callbacks = [*([average] if has_average else []), Sees()]
    arguments = {"strategy": "fsdp", "use_distributed_sampler": False, "max_epochs": run + 1}
    trainer = quiet_trainer(callbacks=callbacks, **arguments)
    trainer.fit(TinyModule(), TinyData(2), ckpt_path=folder / f"{run}.ckpt" if run else None)
    trainer.save_checkpoint(folder / f"{run + 1}.ckpt")
    return began


@pytest.mark.slow
@pytest.mark.distributed
def test_what_is_dealt_out_to_ranks_is_kept_too(tmp_path: Path) -> None:
    for run, has_average in enumerate([True, False, True]):
        ranks = run_on_ranks(fit_sharded, tmp_path, run, has_average)
    key = EMAWeightAveraging(decay=0.5).state_key
    first = read_checkpoint(tmp_path / "1.ckpt")["callbacks"][key]
    assert_same_state(read_checkpoint(tmp_path / "2.ckpt")["callbacks"][key], first)
    assert first["average"]
    for began in ranks:
        assert_same_state(began, first["average"])


def test_a_state_that_a_hook_deletes_is_not_kept(packages: dict[str, Any], tmp_path: Path) -> None:
    class Drops:
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            del checkpoint["callbacks"]["Counts"]

    fit([packages["left"].Counts()], tmp_path / "none", tmp_path / "1.ckpt", 1)
    trainer = quiet_trainer(callbacks=[Drops()], max_epochs=2)
    trainer.fit(TinyModule(), TinyData(2), ckpt_path=tmp_path / "1.ckpt")
    trainer.save_checkpoint(tmp_path / "2.ckpt")
    assert "Counts" not in read_checkpoint(tmp_path / "2.ckpt")["callbacks"]


def test_what_a_file_says_of_packages_is_text(tmp_path: Path) -> None:
    fit([Own()], tmp_path / "none", tmp_path / "1.ckpt", 1)
    (tmp_path / "never_imported.py").write_text("raise SystemExit('it was imported')")
    origin = {"package": "never_imported\x1b[2J", "version": "1; import os", "class": "never_imported:Counts"}
    code = f"""
import sys, warnings
sys.path.insert(0, {str(tmp_path)!r})
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.testing import TinyData, TinyModule, quiet_trainer
checkpoint = read_checkpoint("1.ckpt")
checkpoint["trainkit"]["origins"] = {{"Own": {origin!r}, "never_imported.Counts": {origin!r}}}
write_checkpoint(checkpoint, "2.ckpt")
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    quiet_trainer(max_epochs=2).fit(TinyModule(), TinyData(2), ckpt_path="2.ckpt")
assert "never_imported" not in sys.modules
assert any("never_imported:Counts (never_imported" in str(each.message) for each in told), told
assert not any("\x1b" in str(each.message) for each in told)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_plugin_that_was_added_since_has_its_own_state_and_another_one_a_key_of_its_own() -> None:
    theirs = Absent({"n": 1}, {"package": "a", "version": "1", "class": "Own"})
    states, origins = states_of_all([("Own", Own())], {"Own": Absent({"own": 5}, None)})
    of_script = {"Own ()": {"package": "", "version": "", "class": "Own"}}
    assert (states, origins) == ({"Own ()": {"own": 0}, "Own": {"own": 5}}, of_script)
    # Of another package, with the same key: neither takes the place of the other.
    states, _ = states_of_all([("Own", Own())], {"Own ()": theirs, "Own": theirs})
    assert sorted(states) == ["Own", "Own ()", "Own () 2"]
    named = [("EarlyStopping", EarlyStopping("val/loss"))]
    key = EarlyStopping("val/loss").state_key
    states, origins = states_of_all(named, {key: Absent({}, theirs.origin)})
    assert len(states) == 2 and sorted(each["package"] for each in origins.values()) == ["a", "trainkit"]


def test_what_belongs_to_trainkit_or_to_nobody_is_kept_in_silence() -> None:
    origin = {"package": "trainkit", "version": "0.1", "class": "EarlyStopping"}
    kept = keep_absent(["a", "b"], {"a": {"n": 1}, "b": 2, "c": 3}, {"a": origin})  # type: ignore[dict-item]
    assert kept == {"a": ({"n": 1}, origin), "b": (2, None)}


class Own:
    """One that is in no package."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_batch_end(self) -> None:
        self.count += 7

    def state_dict(self) -> dict[str, Any]:
        return {"own": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["own"]
