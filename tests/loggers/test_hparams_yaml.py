from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import torch
import yaml

from trainkit.errors import LogWriteError
from trainkit.loggers.hparams_yaml import update_hparams_file


def written(folder):
    return yaml.safe_load((folder / "hparams.yaml").read_text(encoding="utf-8"))


def test_plain_values_come_back_as_they_were(tmp_path):
    params = {"lr": 1e-3, "hidden": 64, "name": "Größe", "bias": True, "none": None, "nested": {"betas": [0.9, 0.99]}}
    update_hparams_file(tmp_path / "run", params)
    assert written(tmp_path / "run") == params


def test_what_loses_nothing_is_converted_and_the_rest_left_out(tmp_path):
    params = {
        "pair": (1, (2, 3)),
        "options": Namespace(a=1),
        "path": Path("data"),
        "net": torch.nn.ReLU(),
        "act": torch.relu,
        "dtype": torch.float32,
        "weights": [torch.zeros(2)],
    }
    update_hparams_file(tmp_path, params)
    assert written(tmp_path) == {"pair": [1, [2, 3]], "options": {"a": 1}, "path": "data"}


def test_later_values_join_and_replace_earlier_ones(tmp_path):
    update_hparams_file(tmp_path, {"a": 1, "b": 2})
    update_hparams_file(tmp_path, {"b": 3, "c": 4})
    assert written(tmp_path) == {"a": 1, "b": 3, "c": 4}
    assert [path.name for path in tmp_path.iterdir()] == ["hparams.yaml"]


@pytest.mark.parametrize("value", [{"t": {(1, 2): 3}}, {"s": {(1, 2)}}])
def test_what_could_not_be_read_back_is_left_out(tmp_path, value):
    for _ in range(2):
        update_hparams_file(tmp_path, {"a": 1, "value": value})
        assert written(tmp_path) == {"a": 1}


@pytest.mark.parametrize(
    "text", ["- 1", "abc", "a: [", "a: &a [*a]", "[" * 2000, "a: !!bool maybe", "a: " + "9" * 5000, b"\xff", "0"]
)
def test_a_broken_file_is_named_and_left_as_it_is(tmp_path, text):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "hparams.yaml").write_bytes(content)
    with pytest.raises(LogWriteError, match=r"could not add to .*hparams\.yaml: .* Mend it, or move it away"):
        update_hparams_file(tmp_path, {"a": 1})
    assert (tmp_path / "hparams.yaml").read_bytes() == content


def test_rights_of_the_file_stay(tmp_path):
    update_hparams_file(tmp_path, {"a": 1})
    (tmp_path / "hparams.yaml").chmod(0o600)
    update_hparams_file(tmp_path, {"a": 2})
    assert (tmp_path / "hparams.yaml").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(LogWriteError, match="taken"):
        update_hparams_file(tmp_path / "taken" / "run", {"a": 1})
