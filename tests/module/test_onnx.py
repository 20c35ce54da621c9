from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainkit.errors import ModuleError
from trainkit.module import TrainModule
from trainkit.module.onnx import export_onnx
from trainkit.testing import TinyModule


class Dropping(TrainModule):
    """In train mode no two outputs are equal."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


class Calls(list[Any]):
    """Stands for ``torch.onnx.export``, which needs a package that is not always there."""

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], path: Any, **options: Any) -> str:
        self.append((module.training, torch.is_grad_enabled(), arguments, path, options))
        return "program"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    monkeypatch.setattr(torch.onnx, "export", calls)
    return calls


def test_export_without_an_input_says_what_to_do() -> None:
    with pytest.raises(ModuleError, match=r"exporting TinyModule needs an input.*example_input_array"):
        TinyModule().to_onnx("model.onnx")


def test_forward_is_exported_in_eval_mode_and_the_module_stays_as_it_was(calls: Calls) -> None:
    module = Dropping()
    module.net[0].eval()
    sample = torch.zeros(1, 4)

    assert export_onnx(module, "model.onnx", sample, opset_version=18) == "program"

    ((training, with_gradients, arguments, path, options),) = calls
    assert (training, with_gradients, path, options) == (False, False, "model.onnx", {"opset_version": 18})
    assert torch.equal(arguments[0], sample)
    assert [child.training for child in module.net] == [False, True]


def test_the_example_of_the_module_is_taken_on_its_device(calls: Calls) -> None:
    module = Dropping().to("meta")
    module.example_input_array = (torch.zeros(2, 4),)
    module.to_onnx()
    assert calls[0][2][0].device.type == "meta" and calls[0][2][0].shape == (2, 4)


def test_a_file_in_onnx_format_gives_what_the_module_gives(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")
    module = Dropping()
    module.to_onnx(tmp_path / "model.onnx", torch.zeros(1, 4))
    assert (tmp_path / "model.onnx").stat().st_size > 0


def test_a_module_can_be_exported_by_torch() -> None:
    module = Dropping().eval()
    x = torch.randn(3, 4)
    program = torch.export.export(module, (x,))
    assert torch.equal(program.module()(x), module(x))
