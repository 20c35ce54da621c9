from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch

from trainkit.data.wait_meter import usable_cores
from trainkit.doctor import hardware
from trainkit.doctor.report import Fact, Finding


def test_threads_beyond_the_cores_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = usable_cores()
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert not [each for each in hardware.processor() if isinstance(each, Finding)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores + 1)
    (found,) = [each for each in hardware.processor() if isinstance(each, Finding)]
    assert found.to_do == f"OMP_NUM_THREADS={cores}"


def test_a_driver_without_a_device_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(hardware, "driver_version", lambda: "")
    assert not [each for each in hardware.accelerators() if isinstance(each, Finding)]
    monkeypatch.setattr(hardware, "driver_version", lambda: "570.1")
    (found,) = [each for each in hardware.accelerators() if isinstance(each, Finding)]
    assert found.level == "slow" and "570.1" in found.what


@pytest.mark.parametrize(("free", "levels"), [(70 * 10**9, []), (10**9, ["slow"])])
def test_each_device_is_told_with_its_memory(monkeypatch: pytest.MonkeyPatch, free: int, levels: list[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(name=f"Card {index}", major=9, minor=0)
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free if index else 60 * 10**9, 80 * 10**9))
    found = list(hardware.accelerators())
    told = [each.text for each in found if isinstance(each, Fact) and each.about == "cuda"]
    assert told[0] == "cuda:0 Card 0, 60 GB of 80 GB free, capability 9.0, bf16" and len(told) == 2
    assert [each.level for each in found if isinstance(each, Finding)] == levels


def test_a_device_that_cannot_be_used_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(index: int) -> None:
        raise RuntimeError("CUDA error: out of memory\nmore")

    test_each_device_is_told_with_its_memory(monkeypatch, 70 * 10**9, [])
    monkeypatch.setattr(torch.cuda, "mem_get_info", fails)
    found = [each for each in hardware.accelerators() if isinstance(each, Finding)]
    assert {(each.level, each.why) for each in found} == {("broken", "CUDA error: out of memory")}


def test_gpus_without_nccl_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    told, found = hardware.ranks()
    assert told.text.endswith("nccl missing") and isinstance(found, Finding)  # type: ignore[union-attr]


def test_a_compiler_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (told,) = hardware.compilers()
    assert isinstance(told, Fact) and "no C++ compiler" in told.text
    monkeypatch.setattr(shutil, "which", lambda name: f"/x/{name}" if name == "clang++" else None)
    (told,) = hardware.compilers()
    assert isinstance(told, Fact) and told.text.startswith("/x/clang++")
