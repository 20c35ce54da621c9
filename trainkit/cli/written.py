"""Writing a folder of files from templates, which are beside the commands."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from trainkit.errors import ConfigError


def write_folder(folder: Path, templates: str, names: Mapping[str, str | None], values: Mapping[str, str]) -> Path:
    """Write files into a new folder, and return it.

    Args:
        folder: The folder. One that is there may have no files in it.
        templates: The folder of the templates within ``trainkit/cli``.
        names: The paths of the files, and the template of each; None for an empty one.
        values: What takes the place of ``$name`` in templates and of ``{name}`` in paths.

    Raises:
        ConfigError: If there is such a folder with files in it, or it cannot be written.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already, and is left as it is. Choose another name.")
    source = files("trainkit.cli") / templates
    try:
        for path, template in names.items():
            file = folder / path.format(**values)
            file.parent.mkdir(parents=True, exist_ok=True)
            text = "" if template is None else (source / template).read_text(encoding="utf-8")
            file.write_text(Template(text).substitute(values), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return folder
