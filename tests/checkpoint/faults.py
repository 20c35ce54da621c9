"""A file system whose n-th call fails, or is the last thing that a process does."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from trainkit.storage import temporary

CALLS = ("open", "write", "flush", "fsync", "replace", "unlink")


class Faults:
    """Stands between `temporary` and the file system.

    Attributes:
        calls: What was called so far.
        fail_at: The number of the call that fails, from 1; 0 for none.
        fail: What happens then.
    """

    def __init__(self, set_attribute: Callable[..., None] = setattr) -> None:
        self.calls: list[str] = []
        self.fail_at = 0
        self.fail: Callable[[], None] = lambda: None
        real_open = open
        counted = self.counted("open", real_open)
        set_attribute(temporary, "open", lambda *args, **kinds: FaultyFile(self, counted(*args, **kinds)))
        for name in ("fsync", "replace", "unlink"):
            set_attribute(os, name, self.counted(name, getattr(os, name)))

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) == self.fail_at:
                self.fail()
            return function(*arguments, **keywords)

        return call

    def fail_with(self, code: int) -> None:
        def fail() -> None:
            raise OSError(code, os.strerror(code))

        self.fail = fail

    def die(self) -> None:
        self.fail = lambda: os._exit(9)

    def begin(self, fail_at: int) -> None:
        """Count anew."""
        self.calls, self.fail_at = [], fail_at


class FaultyFile:
    def __init__(self, faults: Faults, file: Any) -> None:
        self.write = faults.counted("write", file.write)
        self.flush = faults.counted("flush", file.flush)
        for name in ("fileno", "close", "read", "seek", "tell", "seekable"):
            setattr(self, name, getattr(file, name))

    def __enter__(self) -> FaultyFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
