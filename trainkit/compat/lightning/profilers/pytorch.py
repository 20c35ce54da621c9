"""Lightning's name and arguments for ``profiler="torch"``."""

from __future__ import annotations

import os
from typing import Any

from trainkit.errors import UnsupportedError
from trainkit.profilers import TorchProfiler

_OWN = ("record_shapes", "profile_memory", "with_stack")
_INSTEAD = "trainkit.profilers.TorchProfiler(skip=..., wait=..., warm_up=..., active=...)"


class PyTorchProfiler(TorchProfiler):
    """Records a few training steps with ``torch.profiler``.

    Args:
        dirpath: Where traces are written; None is the folder of the run.
        filename: Accepted: traces are named by rank and number.
        group_by_input_shapes: Must be False: rows of the table are operators.
        emit_nvtx: Must be False: torch's own profiler records.
        export_to_chrome: Must be True: there is always a trace.
        row_limit: How many operators the table has.
        sort_by_key: Accepted: rows are sorted by their own time on the device.
        record_module_names: Accepted: ``with_stack=True`` tells lines of Python.
        table_kwargs: Accepted: there is one table.
        profiler_kwargs: ``record_shapes``, ``profile_memory``, ``with_stack``.

    Raises:
        UnsupportedError: If an argument asks for something else.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        group_by_input_shapes: bool = False,
        emit_nvtx: bool = False,
        export_to_chrome: bool = True,
        row_limit: int = 20,
        sort_by_key: str | None = None,
        record_module_names: bool = True,
        table_kwargs: dict[str, Any] | None = None,
        **profiler_kwargs: Any,
    ) -> None:
        refused = {"group_by_input_shapes": group_by_input_shapes, "emit_nvtx": emit_nvtx}
        refused |= {"export_to_chrome=False": not export_to_chrome}
        refused |= {name: True for name in profiler_kwargs if name not in _OWN}
        for name, is_asked in refused.items():
            if is_asked:
                raise UnsupportedError(f"PyTorchProfiler({name})", _INSTEAD)
        super().__init__(dirpath=dirpath, row_limit=row_limit, **profiler_kwargs)
