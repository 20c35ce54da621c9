from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainkit.errors import ConfigError, DeviceError, UnknownNameError
from trainkit.plugins.devices import choose_kind, describe_devices, find_devices, parse_devices


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("devices", "choice"),
    [
        ("auto", "auto"),
        (3, 3),
        (-1, -1),
        ("3", 3),
        ("-1", -1),
        ("3,", [3]),
        ("0,1", [0, 1]),
        ("0, 2", [0, 2]),
        ([1], [1]),
        ((2, 0), [2, 0]),
    ],
)
def test_every_form_of_devices_is_understood(devices: Any, choice: Any):
    assert parse_devices(devices) == choice


@pytest.mark.parametrize(
    "devices", [0, -2, True, None, 1.5, "", "two", "0,x", [], [0, 0], [-1], ["0"], "1,1", {"a": 1}]
)
def test_what_is_no_device_is_refused_with_what_is_allowed(devices: Any):
    with pytest.raises(ConfigError, match=r"devices=.* is not usable\. Allowed: 'auto', a number"):
        parse_devices(devices)


@given(count=st.integers(1, 64))
def test_a_number_means_the_same_as_text(count: int):
    assert parse_devices(str(count)) == parse_devices(count) == count


def test_auto_is_cuda_then_the_cpu(three_gpus: None, monkeypatch: pytest.MonkeyPatch):
    assert choose_kind("auto") == choose_kind("gpu") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_kind("auto") == choose_kind("gpu") == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_kind("auto") == "cpu"


def test_an_unknown_accelerator_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"(?s)unknown accelerator 'cudda'.*did you mean 'cuda'"):
        choose_kind("cudda")


@pytest.mark.parametrize(
    ("choice", "suits", "indexes"),
    [
        ("auto", 1, [0]),
        ("auto", -1, [0, 1, 2]),
        ("auto", 5, [0, 1, 2]),
        (2, 1, [0, 1]),
        (-1, 1, [0, 1, 2]),
        ([2, 0], 1, [2, 0]),
    ],
)
def test_gpus_are_chosen_by_number_or_index(three_gpus: None, choice: Any, suits: int, indexes: list[int]):
    assert find_devices("cuda", choice, suits) == [torch.device("cuda", index) for index in indexes]


@pytest.mark.parametrize(("choice", "missing"), [(4, 3), ([0, 7], 7)])
def test_gpus_that_do_not_exist_are_refused_with_how_many_do(three_gpus: None, choice: Any, missing: int):
    with pytest.raises(ConfigError, match=f"cuda:{missing} was asked for .* finds 3 CUDA devices"):
        find_devices("cuda", choice, 1)


@pytest.mark.parametrize("choice", ["auto", 1, -1])
def test_without_any_gpu_it_says_what_was_found(no_gpu: None, choice: Any):
    with pytest.raises(DeviceError, match=r"no CUDA device here: torch .* finds 0 CUDA devices"):
        find_devices("cuda", choice, 1)


def test_there_is_at_most_one_mps_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_devices("mps", "auto", -1) == find_devices("mps", [0], 1) == [torch.device("mps", 0)]
    with pytest.raises(ConfigError, match="mps:1 was asked for"):
        find_devices("mps", 2, 1)
    assert "MPS" in describe_devices()


def test_on_the_cpu_a_number_is_a_number_of_processes():
    cpu = torch.device("cpu")
    assert find_devices("cpu", "auto", -1) == [cpu]
    assert find_devices("cpu", "auto", 2) == find_devices("cpu", 2, 1) == [cpu, cpu]


@pytest.mark.parametrize("choice", [-1, [0], [0, 1]])
def test_the_cpu_has_no_indexes(choice: Any):
    with pytest.raises(ConfigError, match="On the CPU, devices is a number of processes"):
        find_devices("cpu", choice, 1)
