"""Names of checkpoints: templates such as ``{epoch}-{val/loss:.2f}``, and versions where a name is taken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from string import Formatter
from typing import Any

from torch import Tensor

from trainkit.errors import ConfigError, nearest_name
from trainkit.output import warn
from trainkit.storage.files import checkpoint_exists


def check_template(template: str, where: str) -> None:
    """Check that ``template`` can be filled in. Called when the callback is made, long before the first save.

    Raises:
        ConfigError: If its braces do not match, or contain no name.
    """
    try:
        fields = [(field, spec) for _, field, spec, _ in Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise ConfigError(f"{where}: filename={template!r} is no template: {error}. {_ALLOWED}") from error
    for field, spec in fields:
        # "{}" names nothing, and a format within a format would need a value for itself.
        if not field or "{" in (spec or ""):
            raise ConfigError(f"{where}: filename={template!r} has braces that do not hold just a name. {_ALLOWED}")


_ALLOWED = "Write it like '{epoch}-{val/loss:.2f}': names of metrics, 'epoch' or 'step', with or without a format."


def fill_template(template: str, values: Mapping[str, Any], *, equals: str | None) -> str:
    """Replace each name in braces by its value, or by the name and its value.

    A name without a value counts as 0. A ``/`` in a name is written as ``-``, so that it never makes a folder.

    Args:
        template: The template, such as ``{epoch}-{val/loss:.2f}``.
        values: Numbers and scalar tensors by name.
        equals: The text between a name and its value, as in ``epoch=3``; None leaves out the names.

    Raises:
        ConfigError: If a value does not fit its format.
    """
    # Not str.format, which would take "{train.loss}" for an attribute of "train".
    parts = []
    for literal, field, spec, _ in Formatter().parse(template):
        parts.append(literal)
        if field is not None:
            if field not in values and (nearest := nearest_name(field, values, cutoff=0.8)) is not None:
                warn(
                    f"filename={template!r} names {field!r}, which has not been logged and counts as 0. Did you mean "
                    f"{nearest!r}?"
                )
            value = _format(values.get(field, 0), spec or "", field, template)
            parts.append(value if equals is None else f"{field.replace('/', '-')}{equals}{value}")
    return "".join(parts)


def free_path(
    path_of_version: Callable[[int | None], str],
    first_version: int,
    reuse: Collection[str],
    taken: Collection[str],
    is_repeated: Callable[[str], bool] = lambda path: False,
) -> str:
    """Return the first path at which there is no file yet, or whose file may be overwritten.

    Args:
        path_of_version: Returns the path for a version; without one for None.
        first_version: The first version to try.
        reuse: Paths whose files may be overwritten.
        taken: Paths at which a file is about to be written.
        is_repeated: Whether the file at a path is the one that is to be written, from before the run was resumed.
    """
    path, version = path_of_version(None), first_version
    while path not in reuse and (path in taken or (checkpoint_exists(path) and not is_repeated(path))):
        path, version = path_of_version(version), version + 1
    return path


def _format(value: Any, spec: str, field: str, template: str) -> str:
    number = value.item() if isinstance(value, Tensor) else value
    try:
        return format(number, spec)
    except ValueError as error:
        raise ConfigError(
            f"filename={template!r}: {field} = {number!r} cannot be written as {spec!r}: {error}."
        ) from error
