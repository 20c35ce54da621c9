from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainkit.compat.lightning.profilers import PyTorchProfiler
from trainkit.errors import UnsupportedError
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def test_it_traces_into_the_folder_that_it_was_given(tmp_path: Path) -> None:
    profiler = PyTorchProfiler(dirpath=tmp_path, filename="mine", row_limit=3, record_shapes=True)
    quiet_trainer(max_epochs=1, profiler=profiler).fit(TinyModule(), TinyData(20))
    assert profiler.traces == [str(tmp_path / "trace-rank0-0.json")]
    assert "operator" in profiler.summary()


@pytest.mark.parametrize(
    "arguments",
    [{"emit_nvtx": True}, {"group_by_input_shapes": True}, {"export_to_chrome": False}, {"schedule": None}],
)
def test_what_it_does_not_do_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match=next(iter(arguments))):
        PyTorchProfiler(**arguments)
