from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from collections import OrderedDict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.errors import CheckpointError, CheckpointNotFoundError, CheckpointWriteError
from trainkit.storage.files import (
    link_checkpoint,
    read_checkpoint,
    read_form,
    remove_checkpoint,
    verify,
    write_checkpoint,
)
from trainkit.storage.saving import _CHECKSUMS
from trainkit.testing import assert_same_state

CHECKPOINT = {
    "epoch": 3,
    "state_dict": OrderedDict(weight=torch.arange(12.0).reshape(3, 4), bias=torch.zeros(3)),
    "optimizer_states": [{"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}],
    "rng": (3, (1, 2**40), None),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoints" / "last.ckpt"


def test_what_is_written_is_read(path: Path) -> None:
    write_checkpoint(CHECKPOINT, path)
    assert_same_state(read_checkpoint(path), CHECKPOINT)
    assert os.listdir(path.parent) == ["last.ckpt"]


def test_any_torch_reads_it_with_weights_only(path: Path) -> None:
    write_checkpoint(CHECKPOINT, path)
    assert_same_state(torch.load(path, weights_only=True), CHECKPOINT)


def test_tensors_go_where_they_are_asked_to(path: Path) -> None:
    write_checkpoint(CHECKPOINT, path)
    assert read_checkpoint(path, map_location="meta")["state_dict"]["bias"].is_meta


def test_what_cannot_be_read_back_is_not_written(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"hyper_parameters\.out: pathlib\.(_local\.)?PosixPath"):
        write_checkpoint({"hyper_parameters": {"out": Path("runs")}}, path)
    assert not path.exists()


def test_the_form_is_all_but_the_values_of_tensors(path: Path) -> None:
    write_checkpoint(CHECKPOINT, path)
    # Not even looked at: behind the same door, damage of a value is found where the value is read.
    whole = path.read_bytes()
    values = torch.arange(12.0).numpy().tobytes()
    path.write_bytes(whole.replace(values, bytes(len(values))))
    form = read_form(path)
    assert (form["epoch"], form["rng"]) == (CHECKPOINT["epoch"], CHECKPOINT["rng"])
    assert form["state_dict"]["weight"].shape == (3, 4)
    assert not form["state_dict"]["weight"].any()
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("read", [read_checkpoint, read_form])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}, "call": print}, "loading it would run code"),
        ([1], "holds a list instead of a dict"),
        ({"trainkit": {"format": -1}}, "trainkit.format is -1"),
        ({"weights": torch.zeros(1).expand(2**31)}, "stands for more bytes than there are"),
    ],
)
def test_both_doors_refuse_the_same(read: Any, content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path / "a.ckpt")


# Reading what is not right


def test_a_missing_file_names_its_neighbours(path: Path) -> None:
    for name in ("epoch=0-step=5.ckpt", "epoch=1-step=10.ckpt"):
        write_checkpoint(CHECKPOINT, path.parent / name)
    with pytest.raises(CheckpointNotFoundError, match=r"did you mean   'epoch=1-step=10.ckpt'") as caught:
        read_checkpoint(path.parent / "epoch=1-step=1.ckpt")
    assert "epoch=0-step=5.ckpt" in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)


def test_a_missing_folder_is_a_missing_checkpoint(path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="there is no checkpoint"):
        read_checkpoint(path)


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it is a folder without a manifest"):
        read_checkpoint(tmp_path)


def test_every_truncation_is_noticed(path: Path) -> None:
    write_checkpoint(CHECKPOINT, path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"damaged|not a checkpoint"):
            read_checkpoint(path)


@pytest.mark.slow
def test_no_flipped_bit_changes_what_is_read(path: Path) -> None:
    write_checkpoint(CHECKPOINT, path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        # The archive's directory, at the end, is what no checksum covers: there, every bit.
        for bit in range(8) if place > len(whole) * 2 // 3 else (place % 8,):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                checkpoint = read_checkpoint(path)
            except CheckpointError:
                continue
            # What goes unnoticed is padding, dates and the like.
            assert_same_state(checkpoint, CHECKPOINT, where=f"bit {bit} of byte {place}")


def test_damage_says_so(path: Path) -> None:
    write_checkpoint(CHECKPOINT, path)
    whole = path.read_bytes()
    weight = whole.index(torch.arange(12.0).numpy().tobytes())
    path.write_bytes(whole[: weight + 5] + b"\xff" + whole[weight + 6 :])
    for check in (verify, read_checkpoint):
        with pytest.raises(CheckpointError, match="damaged or cut off"):
            check(path)


@pytest.mark.parametrize("content", [b"hello, this is text", pickle.dumps({"state_dict": {}})])
def test_other_files_are_no_checkpoints(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        read_checkpoint(path)


def test_a_saved_tensor_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint: it holds a Tensor"):
        read_checkpoint(tmp_path / "tensor.pt")


# Deaths


@pytest.mark.slow
def test_a_process_that_dies_at_any_call_leaves_a_whole_checkpoint(path: Path) -> None:
    write_checkpoint({"epoch": 0}, path)
    script = """
        import builtins, os, sys
        from trainkit.storage import temporary
        from trainkit.storage.files import read_checkpoint, write_checkpoint

        path, calls, die_at = sys.argv[1], 0, 0

        def mortal(function):
            def call(*arguments, **keywords):
                global calls
                calls += 1
                if calls == die_at:
                    os._exit(9)
                return function(*arguments, **keywords)
            return call

        class File:
            def __init__(self, *arguments, **keywords): self.file = open(*arguments, **keywords)
            def __enter__(self): return self
            def __exit__(self, *error): self.file.close()
            def write(self, data): return mortal(self.file.write)(data)
            def flush(self): return mortal(self.file.flush)()
            def __getattr__(self, name): return getattr(self.file, name)

        temporary.open = mortal(File)
        os.fsync, os.replace = mortal(os.fsync), mortal(os.replace)
        while True:
            die_at += 1
            child = os.fork()
            if child == 0:
                write_checkpoint({"epoch": 1}, path)
                os._exit(0)
            died = os.waitpid(child, 0)[1] != 0
            print(die_at, read_checkpoint(path)["epoch"], flush=True)
            if not died:
                break
    """
    printed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], check=True, capture_output=True, text=True
    ).stdout
    epochs = [int(line.split()[1]) for line in printed.splitlines()]
    deaths = len(epochs) - 1
    assert deaths > 10
    # Before the rename the old one, and after it (the folder's fsync, the end) the new one.
    assert epochs == [0] * (deaths - 1) + [1, 1]
    assert os.listdir(path.parent) == [path.name]


# Links and removal


def test_a_link_leads_to_its_checkpoint_also_when_the_folder_moves(path: Path, tmp_path: Path) -> None:
    best = path.parent / "best.ckpt"
    write_checkpoint({"epoch": 1}, best)
    write_checkpoint({"epoch": 0}, path)
    link_checkpoint(best, path)
    assert path.is_symlink()
    path.parent.rename(tmp_path / "moved")
    assert read_checkpoint(tmp_path / "moved" / "last.ckpt") == {"epoch": 1}


def test_writing_over_a_link_leaves_what_it_led_to(path: Path) -> None:
    best = path.parent / "best.ckpt"
    write_checkpoint({"epoch": 1}, best)
    link_checkpoint(best, path)
    write_checkpoint({"epoch": 2}, path)
    assert (read_checkpoint(best), read_checkpoint(path)) == ({"epoch": 1}, {"epoch": 2})


def test_where_there_are_no_links_it_is_a_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = path.parent / "best.ckpt"
    write_checkpoint({"epoch": 1}, best)

    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "symlink", refuse)
    link_checkpoint(best, path)
    assert not path.is_symlink()
    assert read_checkpoint(path) == {"epoch": 1}


def test_linking_to_nothing_is_an_error_that_names_the_link(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = path.parent.parent
    blocker.parent.mkdir(exist_ok=True)
    blocker.write_text("a file where a folder should be")
    with pytest.raises(CheckpointWriteError, match=r"last\.ckpt"):
        link_checkpoint(path.parent / "best.ckpt", path)


def test_removing_twice_is_no_error(path: Path) -> None:
    write_checkpoint({"epoch": 1}, path)
    remove_checkpoint(path)
    remove_checkpoint(path)
    assert not path.exists()


def test_a_save_that_ends_leaves_checksums_on_for_one_that_has_not() -> None:
    torch.serialization.set_crc32_options(False)
    try:
        with ExitStack() as second:
            with _CHECKSUMS:
                second.enter_context(_CHECKSUMS)
            assert torch.serialization.get_crc32_options()
        assert not torch.serialization.get_crc32_options()
    finally:
        torch.serialization.set_crc32_options(True)
