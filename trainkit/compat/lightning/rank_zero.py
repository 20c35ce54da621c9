"""Doing something once, and not in every process: what only rank 0 prints, warns and writes."""

from __future__ import annotations

import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")

_log = logging.getLogger("trainkit")
_OWN_FRAMES = 2


def rank() -> int:
    """Return the number of this process: that of the process group, else that of the launcher, else 0."""
    distributed = sys.modules.get("torch.distributed")  # who has not imported it has no process group
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        number: int = distributed.get_rank()
        return number
    # Some clusters set RANK alone, in every shell; a launcher sets both.
    return int(os.environ["RANK"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 0


@overload
def rank_zero_only(function: Callable[P, R]) -> Callable[P, R | None]: ...
@overload
def rank_zero_only(function: Callable[P, R], default: D) -> Callable[P, R | D]: ...
def rank_zero_only(function: Callable[P, R], default: Any = None) -> Callable[P, Any]:
    """Return ``function`` as one that is called on rank 0 alone; on other ranks it returns ``default``.

    The rank is asked at every call, so it may decorate what is defined before processes are started.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        return function(*args, **kwargs) if rank() == 0 else default

    return call


@rank_zero_only
def rank_zero_info(*args: Any, **kwargs: Any) -> None:
    """Log a message on rank 0, at level INFO; arguments as for ``logging.info``."""
    _log.info(*args, **kwargs)


@rank_zero_only
def rank_zero_debug(*args: Any, **kwargs: Any) -> None:
    """Log a message on rank 0, at level DEBUG; arguments as for ``logging.debug``."""
    _log.debug(*args, **kwargs)


@rank_zero_only
def rank_zero_warn(message: str | Warning, category: type[Warning] = UserWarning, stacklevel: int = 1) -> None:
    """Warn on rank 0; arguments as for ``warnings.warn``."""
    warnings.warn(message, category, stacklevel=stacklevel + _OWN_FRAMES)


@rank_zero_only
def rank_zero_deprecation(message: str | Warning, stacklevel: int = 1) -> None:
    """Warn on rank 0 that something will be removed."""
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + _OWN_FRAMES)
