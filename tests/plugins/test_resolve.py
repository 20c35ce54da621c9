from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.installed import Site
from trainkit.errors import (
    ConfigError,
    DeviceError,
    PluginError,
    TrainkitError,
    UnknownArgumentError,
    UnknownNameError,
)
from trainkit.plugins.resolve import resolve_callback, resolve_precision, resolve_strategy
from trainkit.precision import BFloat16, Float16, Float32, Float64, MixedBFloat16, MixedFloat16
from trainkit.strategies import DDP, DataParallel, SingleDevice

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def alone_and_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    set_gpus(monkeypatch, 0)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, 2)


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two processes on one machine."""
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))


def set_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


# Strategies: one process


@pytest.mark.parametrize(
    "arguments", [{}, {"strategy": "cpu"}, {"accelerator": "cpu"}, {"devices": 1}, {"devices": "1"}]
)
def test_without_a_gpu_one_process_runs_on_the_cpu(arguments: dict[str, Any]):
    strategy = resolve_strategy(**arguments)
    assert type(strategy) is SingleDevice
    assert strategy.devices == (CPU,)


@pytest.mark.parametrize(
    ("arguments", "device"),
    [
        ({}, "cuda:0"),
        ({"accelerator": "gpu"}, "cuda:0"),
        ({"accelerator": "cpu"}, "cpu"),
        ({"strategy": "cpu"}, "cpu"),
        ({"strategy": "cuda"}, "cuda:0"),
        ({"strategy": "gpu"}, "cuda:0"),
        ({"strategy": "cuda:1"}, "cuda:1"),
        ({"strategy": "cuda:1", "accelerator": "gpu", "devices": [1]}, "cuda:1"),
        ({"devices": [1]}, "cuda:1"),
        ({"devices": "1,"}, "cuda:1"),
    ],
)
def test_one_device_is_chosen(two_gpus: None, arguments: dict[str, Any], device: str):
    strategy = resolve_strategy(**arguments)
    assert type(strategy) is SingleDevice
    assert strategy.device == torch.device(device)


def test_dp_takes_all_gpus_unless_told_otherwise(two_gpus: None):
    assert resolve_strategy("dp").devices == (torch.device("cuda:0"), torch.device("cuda:1"))
    assert resolve_strategy("dp", devices=[1]).devices == (torch.device("cuda:1"),)


@pytest.mark.parametrize("arguments", [{}, {"devices": 2}, {"accelerator": "cpu"}])
def test_dp_without_a_gpu_says_so_and_takes_one_device(arguments: dict[str, Any]):
    with pytest.warns(UserWarning, match="strategy 'dp' splits batches over CUDA devices"):
        strategy = resolve_strategy("dp", **arguments)
    assert type(strategy) is DataParallel
    assert strategy.devices == (CPU,)


def test_ddp_in_one_process_needs_no_torchrun():
    strategy = resolve_strategy("ddp")
    assert type(strategy) is DDP
    assert (strategy.devices, strategy.world_size) == ((CPU,), 1)


@pytest.mark.parametrize("finds", [True, False])
def test_the_peers_names_of_ddp_are_known(finds: bool):
    strategy = resolve_strategy(f"ddp_find_unused_parameters_{str(finds).lower()}")
    assert isinstance(strategy, DDP)
    assert strategy.find_unused_parameters is finds


def test_a_strategy_that_was_made_gets_its_devices_and_its_options_stay(two_gpus: None):
    made = DDP(static_graph=True)
    assert resolve_strategy(made, devices=[1]) is made
    assert made.device == torch.device("cuda:1")


def test_a_strategy_made_for_a_device_keeps_it(two_gpus: None):
    made = SingleDevice("cuda:1")
    for arguments in ({}, {"accelerator": "gpu"}, {"devices": 1}, {"devices": [1]}):
        assert resolve_strategy(made, **arguments) is made
    assert made.device == torch.device("cuda:1")


# Strategies: several processes


@pytest.mark.parametrize("arguments", [{}, {"strategy": "ddp"}, {"devices": 2}, {"strategy": DDP()}])
def test_under_torchrun_auto_is_ddp_with_a_rank(torchrun: None, arguments: dict[str, Any]):
    strategy = resolve_strategy(**arguments)
    assert type(strategy) is DDP
    assert (strategy.rank, strategy.local_rank, strategy.world_size, strategy.num_nodes) == (1, 1, 2, 1)
    assert strategy.device == CPU


def test_under_torchrun_each_process_takes_its_own_gpu(torchrun: None, monkeypatch: pytest.MonkeyPatch):
    set_gpus(monkeypatch, 4)
    assert resolve_strategy().device == torch.device("cuda:1")
    assert resolve_strategy(devices=[0, 3]).device == torch.device("cuda:3")


def test_under_torchrun_with_one_process_auto_is_one_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert type(resolve_strategy()) is SingleDevice


# Strategies: contradictions


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"devices": 2}, DeviceError, r"devices=2 starts the program anew in 2 processes, .* made in a test"),
        ({"devices": 2, "num_nodes": 3}, ConfigError, "cannot start itself on other machines.*torchrun --nnodes=3"),
        ({"strategy": "cpu", "devices": 2}, ConfigError, "one device per process, and 2 were asked for: cpu, cpu"),
        ({"strategy": "ddp", "devices": 2}, DeviceError, "torchrun --nproc-per-node=2 script.py"),
        ({"devices": 0}, ConfigError, "devices=0 is not usable"),
        ({"devices": [0]}, ConfigError, "On the CPU, devices is a number of processes"),
        ({"strategy": "cuda:7"}, DeviceError, "no CUDA device here: .* finds 0 CUDA devices"),
        ({"strategy": "cuda"}, DeviceError, "no CUDA device here: .* finds 0 CUDA devices"),
        ({"accelerator": "gpu"}, DeviceError, "no CUDA device here: .* finds 0 CUDA devices"),
        ({"strategy": "mps"}, DeviceError, "no MPS device here"),
        ({"strategy": "cuda", "accelerator": "cpu"}, ConfigError, "strategy='cuda' contradicts accelerator='cpu'"),
        ({"strategy": "dpp"}, UnknownNameError, "unknown strategy 'dpp'.*did you mean"),
        ({"strategy": "ddp2"}, UnknownNameError, "did you mean 'ddp'"),
        ({"strategy": 3}, ConfigError, "strategy=3 is not usable"),
        ({"strategy": DDP}, ConfigError, "strategy=<class .*DDP'> is not usable"),
        ({"accelerator": "tpu"}, UnknownNameError, "unknown accelerator 'tpu'.*allowed +auto, cpu"),
        ({"strategy": SingleDevice("cpu"), "devices": 2}, ConfigError, "made for cpu, and .*devices=2"),
        ({"num_nodes": 0}, ConfigError, "num_nodes=0 is not usable"),
        ({"num_nodes": 2}, ConfigError, "num_nodes=2, and the processes were started on 1 machine"),
    ],
)
def test_contradictions_are_refused(arguments: dict[str, Any], error: type[TrainkitError], message: str):
    with pytest.raises(error, match=f"(?s){message}"):
        resolve_strategy(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "cuda:1", "devices": 2}, "strategy='cuda:1' is one device, and devices=2 asks for others"),
        ({"strategy": "cuda:2"}, "cuda:2 was asked for .* finds 2 CUDA devices"),
        ({"strategy": SingleDevice("cuda:1"), "accelerator": "cpu"}, "made for cuda:1, and accelerator='cpu'"),
        ({"strategy": SingleDevice("cuda:1"), "devices": [0]}, r"made for cuda:1, and .*devices=\[0\]"),
    ],
)
def test_contradictions_among_gpus_are_refused(two_gpus: None, arguments: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        resolve_strategy(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"strategy": "ddp"}, {"strategy": DDP()}, {"devices": 2}, {"devices": -1}, {"devices": [0, 1]}, {"devices": "2"}],
)
def test_several_gpus_have_a_process_each(two_gpus: None, arguments: dict[str, Any]):
    # Which a test cannot start; tests/strategies/launch/test_start_ranks.py does.
    with pytest.raises(DeviceError, match=r"devices=2 starts the program anew in 2 processes"):
        resolve_strategy(**arguments)


def test_all_gpus_are_one_where_there_is_one(monkeypatch: pytest.MonkeyPatch):
    set_gpus(monkeypatch, 1)
    assert type(resolve_strategy(devices=-1)) is SingleDevice


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"strategy": "cpu"},
            ConfigError,
            "2 processes were started together, and with strategy 'single' each trains alone",
        ),
        ({"devices": 3}, DeviceError, r"devices=3 asks for 3 process\(es\) .*, and torchrun, .*, has started 2"),
        ({"devices": 1}, DeviceError, r"devices=1 asks for 1 process\(es\) .*, and torchrun, .*, has started 2"),
        ({"num_nodes": 2}, ConfigError, "torchrun --nnodes=2 --nproc-per-node=2"),
    ],
)
def test_what_torchrun_was_not_started_for_is_refused(
    torchrun: None, arguments: dict[str, Any], error: type[TrainkitError], message: str
):
    with pytest.raises(error, match=message):
        resolve_strategy(**arguments)


# Precisions


@pytest.mark.parametrize(
    ("precision", "kind"),
    [
        (None, Float32),
        (32, Float32),
        ("32", Float32),
        ("32-true", Float32),
        (16, MixedFloat16),
        ("16", MixedFloat16),
        ("16-mixed", MixedFloat16),
        ("16-true", Float16),
        ("bf16", MixedBFloat16),
        ("bf16-mixed", MixedBFloat16),
        ("bf16-true", BFloat16),
        (64, Float64),
        ("64", Float64),
        ("64-true", Float64),
    ],
)
def test_a_precision_has_the_peers_names(precision: Any, kind: type):
    assert type(resolve_precision(precision)) is kind


def test_a_precision_that_was_made_is_taken():
    made = MixedFloat16()
    assert resolve_precision(made) is made


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("16-mxed", r"unknown precision '16-mxed'.*did you mean '16-mixed'"),
        (8, "unknown precision '8'"),
        (True, "precision=True is not usable"),
        (torch.float16, "precision=torch.float16 is not usable"),
    ],
)
def test_an_unknown_precision_is_refused(precision: Any, message: str):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        resolve_precision(precision)


# Callbacks, and parts of others


PACKAGE = """
class Counter:
    def __init__(self, *, start: int = 0) -> None:
        self.start = start
"""


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that offers a callback, and the same, by mistake, as a strategy."""
    metadata = tmp_path / "trainkit_counter-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: trainkit-counter\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(
        "".join(f"[trainkit.{kind}]\ncounter = counter_plugin:Counter\n" for kind in ("callbacks", "strategies"))
    )
    (tmp_path / "counter_plugin.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "counter_plugin", raising=False)


def test_a_callback_is_made_by_name_with_its_arguments(counter: None):
    made: Any = resolve_callback("counter", start=3)
    assert (type(made).__name__, made.start) == ("Counter", 3)


def test_a_callback_that_was_made_is_taken():
    made = object()
    assert resolve_callback(made) is made


def test_an_argument_that_a_callback_does_not_have_is_refused_with_the_nearest(counter: None):
    with pytest.raises(UnknownArgumentError, match=r"(?s)argument of 'counter' 'strat'.*did you mean 'start'"):
        resolve_callback("counter", strat=3)


@pytest.mark.parametrize(
    ("callback", "arguments", "message"),
    [
        (dict, {}, r"dict is a class. Make an object of it: dict\(...\)"),
        (object(), {"start": 1}, r"made already and takes no arguments \(start\)"),
        ("early_stoping", {}, "unknown callback 'early_stoping'.*did you mean 'early_stopping'"),
    ],
)
def test_what_is_no_callback_is_refused(callback: Any, arguments: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        resolve_callback(callback, **arguments)


def test_a_part_of_the_wrong_kind_names_its_package(counter: None):
    with pytest.raises(PluginError, match=r"(?s)gives a Counter, and a Strategy is needed.*trainkit-counter 1.2"):
        resolve_strategy("counter")


def test_a_name_of_a_value_is_an_error_of_its_package(site: Site) -> None:
    site.install("valued", "1.0", "[trainkit.callbacks]\nvalue = valued:VALUE\n", valued="VALUE = 3\n")
    with pytest.raises(PluginError, match=r"callback 'value' is 3, and a class"):
        resolve_callback("value")
