from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainkit.callbacks.model_checkpoint.names import check_template, fill_template, free_path
from trainkit.errors import ConfigError

VALUES = {"epoch": 3, "step": 15, "val/loss": torch.tensor(0.12345), "val.acc": 0.5, "n": 7.0}


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{epoch}-{step}", "epoch=3-step=15"),
        ("{epoch:03d}", "epoch=003"),
        ("best-{val/loss:.2f}", "best-val-loss=0.12"),
        ("{val.acc}", "val.acc=0.5"),
        ("{epoch_test}-{epoch}", "epoch_test=0-epoch=3"),
        ("{missing:d}", "missing=0"),
        ("model", "model"),
        ("{{epoch}}", "{epoch}"),
        ("runs/{epoch}", "runs/epoch=3"),
    ],
)
def test_a_template_is_filled(template: str, name: str) -> None:
    assert fill_template(template, VALUES, equals="=") == name


def test_a_misspelt_name_is_told_of() -> None:
    with pytest.warns(UserWarning, match=r"names 'val_loss', which has not been logged .* mean 'val/loss'"):
        assert fill_template("{val_loss:.2f}", VALUES, equals="=") == "val_loss=0.00"


def test_names_can_be_left_out() -> None:
    assert fill_template("loss_{val/loss:.3f}@{epoch}", VALUES, equals=None) == "loss_0.123@3"


def test_a_value_that_does_not_fit_its_format_is_named() -> None:
    with pytest.raises(ConfigError, match=r"val\.acc = 0\.5 cannot be written as 'd'"):
        fill_template("{val.acc:d}", VALUES, equals="=")


@pytest.mark.parametrize("template", ["{epoch", "epoch}", "{}", "{epoch:{width}}", "a{:d}"])
def test_a_template_that_cannot_be_filled_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match=r"ModelCheckpoint: filename=.*Write it like '\{epoch\}-\{val/loss:\.2f\}'"):
        check_template(template, "ModelCheckpoint")


def test_a_taken_path_gains_the_first_free_version(tmp_path: Path) -> None:
    def path_of_version(version: int | None) -> str:
        return str(tmp_path / ("a" if version is None else f"a-v{version}"))

    assert free_path(path_of_version, 1, [], []) == str(tmp_path / "a")
    assert free_path(path_of_version, 1, [], [str(tmp_path / "a")]) == str(tmp_path / "a-v1")
    for name in ("a", "a-v1"):
        (tmp_path / name).touch()
    assert free_path(path_of_version, 1, [], []) == str(tmp_path / "a-v2")
    assert free_path(path_of_version, 1, [str(tmp_path / "a-v1")], []) == str(tmp_path / "a-v1")


def test_a_file_of_the_same_save_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert free_path(lambda version: str(tmp_path / f"a{version or ''}"), 1, [], [], lambda path: True).endswith("a")


def test_a_link_to_nothing_is_taken_too(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("gone")
    assert free_path(lambda version: str(tmp_path / ("a" if version is None else "b")), 1, [], []) == str(
        tmp_path / "b"
    )
