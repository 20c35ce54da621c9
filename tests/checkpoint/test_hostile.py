"""No file can run code, wherever in it the code is and whoever reads it."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from trainkit.cli.main import main
from trainkit.errors import CheckpointError
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.testing import TinyData, TinyModule, quiet_trainer


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.victim), "w")


class HostileState(Hostile):
    """Runs code by way of its state."""

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (), {"__dict__": Hostile(self.victim)}


class HostileCall(Hostile):
    """Asks one of the functions that may be called to call another."""

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_parameter_with_state, (torch.zeros(1), True, None, Hostile(self.victim))


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    return tmp_path / "victim"


def checkpoint() -> dict[str, Any]:
    trainer = quiet_trainer()
    trainer.fit(TinyModule(), TinyData(2))
    return trainer.dump_checkpoint()


READERS: dict[str, Callable[[Path], object]] = {
    "read": read_checkpoint,
    "fit": lambda path: quiet_trainer(max_epochs=2).fit(TinyModule(), TinyData(2), ckpt_path=path),
    "predict": lambda path: quiet_trainer().predict(TinyModule(), TinyData(1), ckpt_path=path),
    "load_from_checkpoint": TinyModule.load_from_checkpoint,
    "last": lambda path: quiet_trainer(default_root_dir=path.parent).fit(TinyModule(), TinyData(2), ckpt_path="last"),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every container and every value of a checkpoint, but those below tensors."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


def test_code_in_any_field_is_refused_and_not_run(tmp_path: Path, victim: Path) -> None:
    whole = checkpoint()
    everywhere = places(whole)
    assert {path[0] for path in everywhere} == set(whole)
    for path in everywhere:
        torch.save(put(whole, path, Hostile(victim)), tmp_path / "hostile.ckpt")
        with pytest.raises(CheckpointError, match=r"refused: loading it would run code \(_?io.open\)"):
            read_checkpoint(tmp_path / "hostile.ckpt")
        assert not victim.exists(), path


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", [Hostile, HostileState, HostileCall])
def test_nobody_who_reads_a_file_runs_what_is_in_it(tmp_path: Path, victim: Path, kind: Any, reader: str) -> None:
    torch.save({**checkpoint(), "hyper_parameters": {"lr": kind(victim)}}, tmp_path / "hostile.ckpt")
    with pytest.raises(CheckpointError, match="refused"):
        READERS[reader](tmp_path / "hostile.ckpt")
    assert not victim.exists()


@pytest.mark.parametrize("command", ["show", "verify", "diff", "export"])
def test_no_command_runs_what_is_in_a_file(tmp_path: Path, victim: Path, command: str) -> None:
    path = tmp_path / "hostile.ckpt"
    torch.save({**checkpoint(), "callbacks": Hostile(victim)}, path)
    others = {"diff": [str(path)], "export": [str(tmp_path / "weights.safetensors")]}
    result = CliRunner().invoke(main, ["checkpoint", command, str(path), *others.get(command, [])])
    assert result.exit_code == 1
    assert "refused: loading it would run code" in result.output
    assert not victim.exists()


def in_archive(name: str, content: bytes) -> bytes:
    """Return an archive as torch writes it, with one part replaced or added."""
    buffer = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, buffer)
    written = io.BytesIO()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(written, "w") as new:
        top = old.namelist()[0].partition("/")[0]
        for part in old.namelist():
            if part != f"{top}/{name}":
                new.writestr(part, old.read(part))
        new.writestr(f"{top}/{name}", content)
    return written.getvalue()


@pytest.mark.parametrize("name", ["data.pkl", "constants.pkl", "code/__torch__.py", "version", "byteorder"])
def test_hostile_parts_of_an_archive_run_nothing(tmp_path: Path, victim: Path, name: str) -> None:
    path = tmp_path / "hostile.ckpt"
    path.write_bytes(in_archive(name, pickle.dumps(Hostile(victim))))
    try:
        assert read_checkpoint(path).keys() == {"state_dict"}
    except CheckpointError:
        pass
    assert not victim.exists()


def test_text_in_a_checkpoint_stays_text(tmp_path: Path) -> None:
    hostile = {"_target_": "os.mkdir", "path": "made", "class_path": "os.mkdir", "url": "${oc.env:HOME}"}
    saved = checkpoint() | {"hyper_parameters": {"lr": 0.1}, "callbacks": hostile, "extra": hostile}
    write_checkpoint(saved, tmp_path / "a.ckpt")
    with pytest.warns(UserWarning, match="nothing is left to train"):
        quiet_trainer(default_root_dir=tmp_path).fit(TinyModule(), TinyData(2), ckpt_path=tmp_path / "a.ckpt")
    assert read_checkpoint(tmp_path / "a.ckpt")["extra"] == hostile
    assert os.listdir(tmp_path) == ["a.ckpt"]
