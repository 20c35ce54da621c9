"""The folder of one run, ``<save_dir>/<name>/version_N``, and errors that name the file that could not be written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainkit.checks import is_whole
from trainkit.errors import ConfigError, LogWriteError
from trainkit.printable import is_writable
from trainkit.storage.refused import to_do

_NUMBERED = re.compile(r"version_(\d+)")
_OTHERWISE = "write elsewhere (default_root_dir, or the save_dir of the logger), or train with logger=False"


def next_version(root: str | os.PathLike[str]) -> int:
    """Return the number after the highest ``version_N`` in ``root``; 0 if there is none."""
    try:
        names = os.listdir(root)
    except OSError:  # it does not exist yet; if it is no folder, the first write raises
        names = []
    # Compared as numbers: by name, version_10 is before version_9.
    return max((int(match[1]) + 1 for name in names if (match := _NUMBERED.fullmatch(name))), default=0)


class RunFolder:
    """The path ``<save_dir>/<name>/version_N``. Loggers of one run share it; the first that writes makes the folder.

    Args:
        save_dir: The folder of all experiments; None until the Trainer's ``default_root_dir`` is known.
        name: The folder of one experiment, which holds its versions; "" for ``save_dir`` itself.
        version: A number, or the whole name of the version's folder; None for the next free number.

    Raises:
        ConfigError: If ``version`` is neither.
    """

    def __init__(self, save_dir: str | os.PathLike[str] | None, name: str, version: int | str | None) -> None:
        is_name = isinstance(version, str) and is_writable(version)
        if not (version is None or is_name or is_whole(version, at_least=0)):
            raise ConfigError(
                f"version={version!r} is not usable. Allowed: a number of at least 0, the name of a folder, or None."
            )
        self.save_dir = None if save_dir is None else os.path.expanduser(os.fspath(save_dir))
        self.name = name
        self._version = version
        self._was_given = version is not None
        self._is_ours = False

    @property
    def version(self) -> int | str:
        """The version. A free one is chosen on first access, and kept once ``save_dir`` is known."""
        if self._version is not None:
            return self._version
        version = next_version(self.root)
        # Without a save_dir it was looked for in the working folder, and may be taken where the Trainer will write.
        if self.save_dir is not None:
            self._version = version
        return version

    @version.setter
    def version(self, version: int | str) -> None:
        self._version = version

    @property
    def root(self) -> str:
        """The folder that holds the versions."""
        return os.path.join(self.save_dir or os.curdir, self.name) if self.name else self.save_dir or os.curdir

    @property
    def path(self) -> str:
        """The folder of this version."""
        version = self.version
        return os.path.join(self.root, version if isinstance(version, str) else f"version_{version}")

    def share(self, others: Iterable[RunFolder]) -> None:
        """Use the folder that one of ``others``, which belong to the same run, has claimed beside this one."""
        if not (self._was_given or self._is_ours):
            for other in others:
                if other._is_ours and os.path.realpath(other.root) == os.path.realpath(self.root):
                    self._version, self._is_ours = other.version, True
                    return

    def claim(self) -> None:
        """Make the folder of a version that no other run has. One that was given, or is continued, is used as it is."""
        if self._was_given or self._is_ours:
            return
        os.makedirs(self.root, exist_ok=True)
        # Making a folder succeeds for one of several runs that start at once; the others look for the next number.
        while True:
            try:
                os.mkdir(self.path)
            except FileExistsError:
                self._version = next_version(self.root)
            else:
                self._is_ours = True
                return

    def continue_from(self, checkpoint: str | os.PathLike[str]) -> bool:
        """Take the version of the folder that holds ``checkpoint``, if it is one of this experiment.

        A version that was given is kept.

        Returns:
            Whether ``checkpoint`` is in this folder now.
        """
        # resolve: the same folder may be given through a symbolic link.
        path, root = Path(checkpoint).resolve(), Path(self.root).resolve()
        # parents[0] is left out: a checkpoint directly in the root is in no version.
        if not self._was_given and root in path.parents[1:]:
            folder, *rest = path.relative_to(root).parts
            match = _NUMBERED.fullmatch(folder)
            # Without a name, folders of checkpoints may be beside those of runs.
            if match or len(rest) > 1 or _has_other_files(root / folder):
                self._version = int(match[1]) if match else folder
                self._is_ours = True
        return Path(self.path).resolve() in path.parents


def _has_other_files(folder: Path) -> bool:
    """Whether there is anything but checkpoints in ``folder``."""
    return folder.is_dir() and any(path.suffix != ".ckpt" for path in folder.iterdir())


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Return a context in which an `OSError` becomes a `LogWriteError` that names ``path`` and says what to do."""
    try:
        yield
    except OSError as cause:
        code = cause.errno or 0
        reason = os.strerror(code) if code else str(cause)
        error = LogWriteError(f"could not write {os.fspath(path)}: {reason}. {to_do(cause, _OTHERWISE)}")
        error.errno = cause.errno
        raise error from cause
