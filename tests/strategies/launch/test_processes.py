"""The place of a process among others."""

from __future__ import annotations

import pytest
import torch

from trainkit.errors import DeviceError
from trainkit.strategies import DDP, FSDP
from trainkit.strategies.launch.processes import take_place


@pytest.mark.parametrize("kind", [DDP, FSDP])
def test_two_devices_need_two_processes(kind: type[DDP] | type[FSDP]):
    with pytest.raises(DeviceError, match=f"'{kind.name}' needs one process .*\n.*--nproc-per-node=2"):
        take_place(kind(), [torch.device("cpu")] * 2)
