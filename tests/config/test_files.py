from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.config import read
from trainkit.config.files import dotted, is_file_name, key_paths, merge, without_marks
from trainkit.errors import ConfigError, UnknownNameError

BASE = """
shared: {width: 64}
module: {_target_: models.Net, width: "${shared.width}", optimizer: {_target_: torch.optim.Adam, lr: 0.1, eps: 1}}
trainer: {max_epochs: 10, precision: bf16-mixed}
callbacks: {early_stopping: {monitor: val/loss}}
"""


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)
    return tmp_path


def test_later_files_change_what_they_name(in_folder: Path) -> None:
    Path("wide.yaml").write_text("shared: {width: 512}\ntrainer: {max_epochs: 3}\nseed: 1")
    Path("quiet.yaml").write_text("trainer: {max_epochs: 4}\ncallbacks: {early_stopping: null, timer: {duration: 2h}}")
    config = read(["base.yaml", "wide.yaml", "quiet.yaml"], ["trainer.max_steps=5"])
    assert config.module["width"] == 512
    assert config.trainer == {"max_epochs": 4, "precision": "bf16-mixed", "max_steps": 5}
    assert config.callbacks == {"early_stopping": None, "timer": {"duration": "2h"}}
    assert config.seed == 1


def test_a_mapping_can_be_replaced(in_folder: Path) -> None:
    Path("sgd.yaml").write_text("module: {optimizer: {_replace_: true, _target_: torch.optim.SGD, lr: 1}}")
    assert read(["base.yaml", "sgd.yaml"]).module["optimizer"] == {"_target_": "torch.optim.SGD", "lr": 1}
    assert read(["sgd.yaml"]).module == {"optimizer": {"_target_": "torch.optim.SGD", "lr": 1}}
    replaced = read("base.yaml", ["module.optimizer:={_target_: torch.optim.SGD}"])
    assert replaced.module["optimizer"] == {"_target_": "torch.optim.SGD"}


def test_errors_name_the_file_that_has_written_a_key_last(in_folder: Path) -> None:
    Path("typo.yaml").write_text("trainer: {max_epochs: 3}\nmodul: {}")
    with pytest.raises(UnknownNameError, match="typo.yaml: modul"):
        read(["base.yaml", "typo.yaml"])
    Path("other.yaml").write_text("trainer: {max_epochs: 3}\nmodule: {width: 3}")
    source = read(["base.yaml", "other.yaml"]).source
    assert source.where("trainer.max_epochs") == "other.yaml: trainer.max_epochs"
    assert source.where("trainer.precision") == "base.yaml: trainer.precision"
    assert source.where("module.optimizer.lr") == "base.yaml: module.optimizer.lr"
    assert source.where("module.optimizer.betas") == "base.yaml: module.optimizer.betas"
    assert source.where("module") == "other.yaml: module"


def test_the_sections_may_be_a_mapping() -> None:
    config = read({"module": {"_target_": "models.Net", "width": "${seed}"}, "seed": 3}, ["trainer.max_epochs=2"])
    assert (config.module["width"], config.trainer) == (3, {"max_epochs": 2})
    with pytest.raises(UnknownNameError, match=r"\(mapping\): modul"):
        read({"modul": {}})


@pytest.mark.parametrize("given", [(), 3, b"config.yaml"])
def test_what_is_neither_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError):
        read(given)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=3), inner, max_size=3),
    max_leaves=12,
)
MAPPINGS = st.dictionaries(st.text(min_size=1, max_size=3), PLAIN, max_size=4)


@given(MAPPINGS, MAPPINGS)
def test_merging_keeps_what_only_one_has_and_takes_the_later_of_both(
    base: dict[str, Any], later: dict[str, Any]
) -> None:
    merged = merge(base, later)
    assert list(merged) == [*base, *(name for name in later if name not in base)]
    for name, value in merged.items():
        if name not in later:
            assert value == base[name]
        elif not (isinstance(later[name], dict) and isinstance(base.get(name), dict)):
            assert value == later[name]
        else:
            assert value == merge(base[name], later[name])
    assert merge(merged, later) == merged
    assert merge({}, base) == base == merge(base, {})


@given(MAPPINGS)
def test_marks_are_no_values(value: dict[str, Any]) -> None:
    assert without_marks({**value, "_replace_": True}) == value
    assert all("_replace_" not in path for path in key_paths(without_marks({"a": {"_replace_": True, **value}})))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("experiment.yaml", True),
        ("runs/a.yml", True),
        ("trainer.max_epochs=3", False),
        ("module.file=a.yaml", False),
        ("~callbacks.a", False),
        ("experiment", False),
    ],
)
def test_which_words_are_files(in_folder: Path, word: str, expected: bool) -> None:
    assert is_file_name(word) is expected


def test_a_file_that_is_there_may_have_any_name(in_folder: Path) -> None:
    Path("lr=3.yaml").write_text("seed: 1")
    assert is_file_name("lr=3.yaml")


def test_items_of_lists_are_names_in_a_key_path() -> None:
    assert [dotted(path) for path in key_paths({"a": [{"b": 1}, [2]]})] == ["a", "a.0", "a.0.b", "a.1", "a.1.0"]
    assert dotted("a[b]") == "a[b]"
