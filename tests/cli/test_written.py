from __future__ import annotations

from pathlib import Path

import pytest

from trainkit.cli.written import write_folder
from trainkit.errors import ConfigError

FILES = {"{name}/README.md": "README.md.txt", "{name}/empty": None}


def test_names_are_put_into_paths_and_templates(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "made", "project_template", FILES, {"name": "moons"})
    assert (folder / "moons" / "README.md").read_text().startswith("# moons\n")
    assert (folder / "moons" / "empty").read_text() == ""


def test_files_of_the_user_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine"):
        with pytest.raises(ConfigError, match="is there already, and is left as it is"):
            write_folder(folder, "project_template", FILES, {"name": "moons"})
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="cannot be written: Not a directory"):
        write_folder(tmp_path / "mine" / "below", "project_template", FILES, {"name": "moons"})
