"""The devices that ``accelerator`` and ``devices`` ask for, and whether this machine has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from trainkit.checks import is_whole, one_of
from trainkit.errors import ConfigError, DeviceError

ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps")

Choice = Literal["auto"] | int | list[int]
"""Devices of one kind: ``"auto"`` (as many as suit the strategy), a number of them (-1 for all), or their indexes."""


def choose_kind(accelerator: str) -> str:
    """Return the kind of device that ``accelerator`` asks for: ``"cuda"``, ``"mps"`` or ``"cpu"``.

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
    # "gpu" without one: a kind is returned all the same, so that the error comes from `find_devices`, which says more.
    return "cpu" if accelerator == "auto" else "cuda"


def parse_devices(devices: int | str | Sequence[int]) -> Choice:
    """Check ``Trainer(devices=...)``, and return it in one of the forms of `Choice`.

    Raises:
        ConfigError: If it is none of the allowed forms.
    """
    choice: Any = devices
    if isinstance(devices, str) and devices != "auto":
        try:
            choice = [int(index) for index in devices.rstrip(",").split(",")]
        except ValueError:
            choice = None
        # As in Lightning, "3" is a number of devices, and "3," the device with index 3.
        if choice is not None and "," not in devices:
            choice = choice[0]
    if isinstance(choice, Sequence) and not isinstance(choice, str):
        choice = list(choice)
        # Not empty, and no device twice.
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
    """Return the devices of one kind that ``choice`` asks for.

    Args:
        kind: ``"cuda"``, ``"mps"`` or ``"cpu"``.
        choice: The result of `parse_devices`.
        suits: The number for ``"auto"``, as far as there are so many; -1 for all.

    Raises:
        ConfigError: If one of them does not exist.
        DeviceError: If there is no device of this kind.
    """
    # There is one CPU for torch; the number is that of processes, which share it.
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
    """Return a sentence part that names torch's build and the accelerators it finds, for error messages."""
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
