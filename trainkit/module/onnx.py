"""Exporting a module in ONNX format, which runs without trainkit and without Python."""

from __future__ import annotations

import io
import os
from typing import Any

import torch
from torch import nn

from trainkit.batch.nested import map_tensors
from trainkit.errors import ModuleError
from trainkit.module.modes import modes_kept


def export_onnx(
    module: nn.Module,
    file_path: str | os.PathLike[str] | io.BytesIO | None = None,
    input_sample: Any = None,
    **options: Any,
) -> Any:
    """Write ``forward`` of ``module``, in eval mode, in ONNX format; nothing in the module changes.

    Args:
        module: The module to export.
        file_path: The file to write; None writes none.
        input_sample: An input of ``forward`` (a tuple: its arguments); by default ``module.example_input_array``.
        options: As for ``torch.onnx.export``.

    Returns:
        What ``torch.onnx.export`` returns: an ``ONNXProgram``, or None with its older exporter.

    Raises:
        ModuleError: If there is no input.
    """
    sample = getattr(module, "example_input_array", None) if input_sample is None else input_sample
    if sample is None:
        raise ModuleError(
            f"exporting {type(module).__name__} needs an input to follow. Give input_sample=..., or set "
            "self.example_input_array in its __init__."
        )
    # The example is usually made on the CPU, in ``__init__``, before the module was moved.
    device = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    sample = map_tensors(lambda tensor: tensor.to(device), sample)
    with modes_kept(module), torch.no_grad():
        module.eval()
        arguments = sample if isinstance(sample, tuple) else (sample,)
        # It takes a buffer too, which its annotation does not say.
        return torch.onnx.export(module, arguments, file_path, **options)  # type: ignore[arg-type]
