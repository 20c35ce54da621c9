from __future__ import annotations

import errno
from io import BytesIO
from typing import Any

import pytest
import torch

from trainkit.errors import CheckpointError
from trainkit.storage.archive import Archive
from trainkit.storage.loading import load
from trainkit.storage.saving import save


def test_what_is_saved_is_loaded_with_checksums_also_where_they_are_switched_off() -> None:
    file = BytesIO()
    torch.serialization.set_crc32_options(False)
    try:
        save({"x": torch.arange(3)}, file)
        assert not torch.serialization.get_crc32_options()
    finally:
        torch.serialization.set_crc32_options(True)
    archive = Archive(file)
    assert load(archive)["x"].tolist() == [0, 1, 2]
    archive.check_rest()


def test_the_error_of_a_full_disk_stays_one() -> None:
    class Full(BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        save({"x": torch.arange(3)}, Full())


def test_what_torch_does_not_save_is_named() -> None:
    memory = torch.zeros(4)
    with pytest.raises(CheckpointError, match="is a view as"):
        save({"a": memory, "b": memory.view(torch.int32)}, BytesIO())
