from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from trainkit.cli.main import main
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["checkpoint", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds ``first.ckpt`` and ``second.ckpt``, of one run."""
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), TinyData(2))
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    with torch.no_grad():
        trainer.module.layer.bias += 1.0
    trainer.save_checkpoint(tmp_path / "second.ckpt")
    return tmp_path


def test_show_says_what_is_in_a_file(folder: Path) -> None:
    result = run("show", folder / "first.ckpt")
    assert result.exit_code == 0
    assert "module           TinyModule: 10 numbers in 2 tensors\n" in result.output
    assert "progress         epoch 1, 2 updates; at the end of an epoch" in result.output
    assert "layer.bias" not in result.output
    assert "    state_dict.layer.bias  float32[2]\n" in run("show", "--tensors", folder / "first.ckpt").output


def test_verify_tells_whole_files_from_damaged_ones(folder: Path) -> None:
    first, second = folder / "first.ckpt", folder / "second.ckpt"
    assert run("verify", first, second).output == f"{first}: whole\n{second}: whole\n"
    second.write_bytes(second.read_bytes()[:-9])
    torch.save({"weight": torch.zeros(1)}, folder / "bare.pt")
    result = run("verify", second, folder / "bare.pt", first)
    assert result.exit_code == 1
    assert result.output.startswith(f"{second} is damaged or cut off")
    assert f"{folder}/bare.pt is no checkpoint of a run: it has no 'state_dict'" in result.output
    assert result.output.endswith(f"{first}: whole\n")


def test_diff_names_what_differs(folder: Path) -> None:
    result = run("diff", folder / "first.ckpt", folder / "second.ckpt")
    assert result.exit_code == 1
    assert result.output == "state_dict.layer.bias: 2 of 2 values differ, by at most 1\n"
    same = run("diff", folder / "first.ckpt", folder / "first.ckpt")
    assert (same.exit_code, same.output) == (0, "equal\n")


def test_diff_shows_the_first_differences_unless_asked_for_all(tmp_path: Path) -> None:
    for name, value in (("a", 0), ("b", 1)):
        write_checkpoint({"values": [value] * 25}, tmp_path / name)
    short, full = run("diff", tmp_path / "a", tmp_path / "b"), run("diff", "--all", tmp_path / "a", tmp_path / "b")
    assert short.output.splitlines()[19:] == ["values[19]: 0 and 1", "and 5 more, which --all shows"]
    assert full.output.splitlines()[24:] == ["values[24]: 0 and 1"]


def test_convert_runs_code_only_if_told_to(folder: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old.ckpt", tmp_path / "new.ckpt"
    torch.save({**read_checkpoint(folder / "first.ckpt"), "path": Path("somewhere")}, old)
    refused = run("convert", old, new)
    assert refused.exit_code == 2
    assert "runs whatever code is in it" in refused.output
    assert not new.exists()
    result = run("convert", old, new, "--trust")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"unpickling {old}, code in it included",
        "left out, because it cannot be loaded safely: path",
        f"written to {new}",
    ]
    assert read_checkpoint(new)["global_step"] == 2


@pytest.mark.parametrize("options", [[], ["--trust"]])
def test_convert_says_first_that_there_is_no_file(tmp_path: Path, options: list[str]) -> None:
    result = run("convert", tmp_path / "old.ckpt", tmp_path / "new.ckpt", *options)
    assert result.exit_code == 1
    assert result.output == f"CheckpointNotFoundError: there is no checkpoint {tmp_path}/old.ckpt.\n"


@pytest.mark.parametrize("arguments", [["export"], ["convert", "--trust"]])
@pytest.mark.parametrize("name", ["first.ckpt", "link.ckpt", "../{folder}/first.ckpt"])
def test_no_checkpoint_is_replaced_by_what_is_made_of_it(folder: Path, arguments: list[str], name: str) -> None:
    (folder / "link.ckpt").symlink_to("first.ckpt")
    before = (folder / "first.ckpt").read_bytes()
    result = run(*arguments, folder / "first.ckpt", folder / name.format(folder=folder.name))
    assert result.exit_code == 1
    assert "is the checkpoint itself, which would be lost. Choose another name." in result.output
    assert (folder / "first.ckpt").read_bytes() == before
    assert (folder / "link.ckpt").is_symlink()


def test_the_refusal_of_a_file_names_the_command_that_converts_it(tmp_path: Path) -> None:
    torch.save({"state_dict": Path("somewhere")}, tmp_path / "a.ckpt")
    result = run("show", tmp_path / "a.ckpt")
    assert result.exit_code == 1
    assert f"trainkit checkpoint convert {tmp_path}/a.ckpt NEW --trust" in result.output


def test_export_writes_weights(folder: Path) -> None:
    result = run("export", folder / "first.ckpt", folder / "a.safetensors", "--prefix", "layer.")
    assert result.output == f"written to {folder}/a.safetensors\n"
    assert (folder / "a.safetensors").stat().st_size > 40


NASTY = "w\x1b]0;title\x07\n\u202ex"


def test_names_in_a_file_cannot_act_on_a_terminal(tmp_path: Path) -> None:
    paths = [tmp_path / f"\x1b[2J{name}" for name in ("a", "b")]
    for path, value in zip(paths, (torch.zeros(1), torch.ones(1)), strict=True):
        write_checkpoint({"state_dict": {NASTY: value}, "hyper_parameters": {NASTY: NASTY}, NASTY: NASTY}, path)
    commands = [("show", "--tensors", paths[0]), ("verify", *paths), ("diff", *paths), ("show", tmp_path / NASTY)]
    commands += [("export", paths[0], tmp_path / "\x1b.safetensors"), ("export", paths[0], "x", "--prefix", "\x07")]
    torch.save({NASTY: 1}, tmp_path / "bare")
    torch.save({"state_dict": {}, "trainkit": {"format": 2, NASTY: 1}}, tmp_path / "misfit")
    commands += [("verify", tmp_path / "bare", tmp_path / "misfit"), ("convert", paths[0], "y")]
    for command in commands:
        output = run(*command).output
        assert output.replace("\n", "").isprintable(), command
        assert "\\x1b" in output or "bare" in output, command


@pytest.mark.parametrize("weights", ["x", [1], 3, None, {1: torch.zeros(1)}])
def test_verify_knows_weights_that_are_none(tmp_path: Path, weights: object) -> None:
    torch.save({"state_dict": weights}, tmp_path / "a.ckpt")
    result = run("verify", tmp_path / "a.ckpt")
    assert result.exit_code == 1
    assert "state_dict" in result.output


@pytest.mark.parametrize("found", ["x", -1, True, torch.zeros(2), None])
def test_a_format_that_is_no_number_is_an_error(tmp_path: Path, found: object) -> None:
    torch.save({"state_dict": {}, "trainkit": {"format": found}}, tmp_path / "a.ckpt")
    assert "trainkit.format is " in run("show", tmp_path / "a.ckpt").output
