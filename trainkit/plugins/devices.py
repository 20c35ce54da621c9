"""Which devices the Trainer's arguments mean, and whether they are here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from trainkit.checks import is_whole, one_of
from trainkit.errors import ConfigError, DeviceError

ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps")

Choice = Literal["auto"] | int | list[int]
"""Which devices of a kind: as many as suits the strategy, so many (-1 for all), or those with these indexes."""


def choose_kind(accelerator: str) -> str:
    """Return the kind of device that ``accelerator`` means: ``"cuda"``, ``"mps"`` or ``"cpu"``.

    Raises:
        UnknownNameError: If there is no such accelerator.
    """
    one_of("accelerator", accelerator, ACCELERATORS, "Trainer(accelerator=...)")
    if accelerator not in ("auto", "gpu"):
        return accelerator
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu" if accelerator == "auto" else "cuda"


def parse_devices(devices: int | str | Sequence[int]) -> Choice:
    """Return what ``Trainer(devices=...)`` asks for.

    Raises:
        ConfigError: If it is none of the allowed forms.
    """
    choice: Any = devices
    if isinstance(devices, str) and devices != "auto":
        try:
            choice = [int(index) for index in devices.rstrip(",").split(",")]
        except ValueError:
            choice = None
        # As in Lightning, "3" is a number of devices, and "3," the one with index 3.
        if choice is not None and "," not in devices:
            choice = choice[0]
    if isinstance(choice, Sequence) and not isinstance(choice, str):
        choice = list(choice)
        usable = all(is_whole(index, at_least=0) for index in choice) and 0 < len(set(choice)) == len(choice)
    else:
        usable = choice == "auto" or (is_whole(choice, at_least=-1) and choice != 0)
    if not usable:
        raise ConfigError(
            f"devices={devices!r} is not usable. Allowed: 'auto', a number of devices from 1, -1 for all of them, or "
            "different indexes such as [0, 2] or '0,2'."
        )
    return choice  # type: ignore[no-any-return]  # it was narrowed by hand


def find_devices(kind: str, choice: Choice, suits: int) -> list[torch.device]:
    """Return the devices of one kind that ``choice`` means.

    Args:
        kind: ``"cuda"``, ``"mps"`` or ``"cpu"``.
        choice: What `parse_devices` returned.
        suits: How many to take for ``"auto"``, if there are so many; -1 for all.

    Raises:
        ConfigError: If there are fewer, or not these.
        DeviceError: If there are none at all.
    """
    if kind == "cpu":
        return [torch.device("cpu")] * _number_of_processes(choice, suits)
    found = torch.cuda.device_count() if kind == "cuda" else int(torch.backends.mps.is_available())
    if found == 0:
        raise DeviceError(f"there is no {kind.upper()} device here: {describe_devices()}. Use accelerator='cpu'.")
    if isinstance(choice, list):
        indexes = choice
    else:
        number = min(suits, found) if isinstance(choice, str) else choice
        indexes = list(range(found if number == -1 else number))
    missing = [index for index in indexes if index >= found]
    if missing:
        raise ConfigError(
            f"{kind}:{missing[0]} was asked for (devices={choice}) and does not exist: {describe_devices()}."
        )
    return [torch.device(kind, index) for index in indexes]


def describe_devices() -> str:
    """Say which accelerators torch finds."""
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    mps = ", and MPS" if torch.backends.mps.is_available() else ""
    return f"torch {torch.__version__}, {build}, finds {torch.cuda.device_count()} CUDA devices{mps}"


def _number_of_processes(choice: Choice, suits: int) -> int:
    if isinstance(choice, str):
        return max(1, suits)
    if isinstance(choice, list) or choice == -1:
        raise ConfigError(
            f"devices={choice} names GPUs. On the CPU, devices is a number of processes, such as devices=1."
        )
    return choice
