"""Resolves the Trainer's arguments to objects: strategy with devices, precision, callbacks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from trainkit.checks import is_whole
from trainkit.errors import ConfigError, PluginError, UnknownArgumentError
from trainkit.plugins import catalog
from trainkit.plugins.devices import Choice, choose_kind, find_devices, parse_devices
from trainkit.plugins.rank_devices import asks_for_several, find_devices_of_ranks, warn_of_tasks_not_started
from trainkit.precision.base import Precision
from trainkit.strategies.base import Strategy
from trainkit.strategies.launch.environment import Launch, read_launch

T = TypeVar("T")

_DEVICE_NAME = re.compile(r"(cpu|cuda|gpu|mps)(?::(\d+))?")


def resolve_strategy(
    strategy: str | Strategy = "auto",
    accelerator: str = "auto",
    devices: int | str | Sequence[int] = "auto",
    num_nodes: int = 1,
) -> Strategy:
    """Return the strategy that these arguments of the Trainer ask for, with its devices assigned.

    If they ask for several processes, and this one was started alone, the program is started anew in each of them. Then
    this does not return: it ends this process when they have ended.

    Args:
        strategy: A strategy, a name of the catalog, or a device such as ``"cuda:1"``. ``"auto"`` is ``ddp`` where
            several processes were started, or several devices are asked for, else one device.
        accelerator: ``auto``, ``cpu``, ``cuda``, ``gpu`` or ``mps``. ``auto`` is CUDA, else MPS, else the CPU.
        devices: How many, which ones (``[0, 2]`` or ``"0,2"``), -1 for all, or ``"auto"``.
        num_nodes: The number of machines on which torchrun was started. 1, the default, is not checked.

    Raises:
        ConfigError: If the arguments contradict each other or what is here, or a name is unknown.
        DeviceError: If there is no device of that kind here, or several processes cannot be started from here.
    """
    if not is_whole(num_nodes, at_least=1):
        raise ConfigError(f"num_nodes={num_nodes!r} is not usable. Allowed: a whole number of at least 1.")
    launch = read_launch()
    choice = parse_devices(devices)
    # A device as a strategy ("cpu", "cuda:1") names the accelerator too, so the two arguments have to agree.
    named = _DEVICE_NAME.fullmatch(strategy) if isinstance(strategy, str) else None
    kind = _agreed_kind(accelerator, named[1], strategy) if named else choose_kind(accelerator)
    if named and named[2] is not None:
        choice = _agreed_index(int(named[2]), choice, kind)
    several = (launch is not None and launch.world_size > 1) or (strategy == "auto" and asks_for_several(kind, choice))
    chosen = _make_strategy("single" if named else strategy, several)
    # A strategy object may have been made with devices of its own, as in SingleDevice("cuda:1").
    if chosen.devices:
        _refuse_other_devices(chosen, accelerator, kind, choice)
    else:
        has_ranks = chosen.uses_all_devices and not chosen.drives_all_devices
        suits = -1 if chosen.uses_all_devices else 1
        chosen.assign(
            find_devices_of_ranks(kind, choice, launch, num_nodes) if has_ranks else find_devices(kind, choice, suits)
        )
    _refuse_other_launch(chosen, launch or Launch(), num_nodes)
    if launch is None:
        warn_of_tasks_not_started()
    return chosen


def resolve_precision(precision: str | int | Precision | None = None) -> Precision:
    """Return the precision that ``Trainer(precision=...)`` asks for. None is ``32-true``.

    Raises:
        ConfigError: If there is no such precision.
    """
    if isinstance(precision, Precision):
        return precision
    # True and False are ints to Python, and would be taken for names.
    if isinstance(precision, bool) or not isinstance(precision, str | int | None):
        raise ConfigError(f"precision={precision!r} is not usable. Allowed: a name such as '16-mixed', or a Precision.")
    name = "32-true" if precision is None else str(precision)
    return _make("precision", name, "Trainer(precision=...)", {}, Precision)


def resolve_callback(callback: object, **arguments: Any) -> object:
    """Return the callback that is named, made with ``arguments``. A callback object is returned as it is.

    Raises:
        ConfigError: If the name or an argument is unknown, or if ``callback`` is a class.
        PluginError: If it cannot be imported.
    """
    if isinstance(callback, str):
        return _make("callbacks", callback, "Trainer(callbacks=...)", arguments, object)
    if isinstance(callback, type):
        raise ConfigError(f"callbacks: {callback.__name__} is a class. Make an object of it: {callback.__name__}(...).")
    if arguments:
        raise ConfigError(f"callbacks: {callback!r} is made already and takes no arguments ({', '.join(arguments)}).")
    return callback


def resolve_logger(logger: object) -> object:
    """Return the logger that is named, made without arguments. A logger object is returned as it is.

    Raises:
        ConfigError: If the name is unknown.
        PluginError: If it cannot be imported.
    """
    return _make("loggers", logger, "Trainer(logger=...)", {}, object) if isinstance(logger, str) else logger


def resolve_profiler(profiler: object) -> object:
    """Return the profiler that is named, made without arguments. A profiler object is returned as it is.

    Raises:
        ConfigError: If the name is unknown.
        PluginError: If it cannot be imported.
    """
    return _make("profilers", profiler, "Trainer(profiler=...)", {}, object) if isinstance(profiler, str) else profiler


def _agreed_kind(accelerator: str, named: str, strategy: object) -> str:
    """Return the kind of device in the name of a strategy. Raises if ``accelerator`` asks for another one."""
    kind = choose_kind(named)
    if accelerator == "auto" or kind == choose_kind(accelerator):
        return kind
    raise ConfigError(f"strategy={strategy!r} contradicts accelerator={accelerator!r}. Leave out one of them.")


def _agreed_index(index: int, choice: Choice, kind: str) -> Choice:
    """Return the device in the name of a strategy as a choice. Raises if ``devices`` asks for others."""
    if choice not in ("auto", 1, [index]):
        raise ConfigError(
            f"strategy='{kind}:{index}' is one device, and devices={choice!r} asks for others. Leave out one of them."
        )
    return 1 if kind == "cpu" else [index]


def _make_strategy(strategy: str | Strategy, several: bool) -> Strategy:
    if isinstance(strategy, Strategy):
        return strategy
    if not isinstance(strategy, str):
        raise ConfigError(f"strategy={strategy!r} is not usable. Allowed: a name such as 'ddp', or a Strategy.")
    if strategy == "auto" and several:
        strategy = "ddp"
    return _make("strategies", strategy, "Trainer(strategy=...)", {}, Strategy)  # type: ignore[type-abstract]  # a subclass comes out


def _refuse_other_devices(strategy: Strategy, accelerator: str, kind: str, choice: Choice) -> None:
    """Refuse arguments that ask for other devices than those the strategy was made with."""
    indexes = [device.index or 0 for device in strategy.devices]
    other_kind = accelerator != "auto" and kind != strategy.devices[0].type
    if other_kind or choice not in ("auto", len(indexes), indexes):
        own = ", ".join(map(str, strategy.devices))
        raise ConfigError(
            f"the strategy was made for {own}, and accelerator={accelerator!r}, devices={choice!r} ask for others.\n"
            "Leave them out, or make the strategy without devices."
        )


def _refuse_other_launch(strategy: Strategy, launch: Launch, num_nodes: int) -> None:
    """Refuse a strategy or a number of machines that the processes were not started for."""
    if strategy.world_size != launch.world_size:
        raise ConfigError(
            f"{launch.world_size} processes were started together, and with strategy {strategy.name!r} each trains "
            "alone. Use strategy='ddp', or start one process, without torchrun."
        )
    if num_nodes not in (1, strategy.num_nodes):
        raise ConfigError(
            f"num_nodes={num_nodes}, and the processes were started on {strategy.num_nodes} machine(s).\n"
            f"    start with   torchrun --nnodes={num_nodes} --nproc-per-node={len(strategy.devices)} script.py"
        )


def _make(kind: catalog.Kind, name: str, where: str, arguments: dict[str, Any], base: type[T]) -> T:
    """Import what ``name`` stands for, call it with ``arguments``, and check that the result is a ``base``."""
    entry = catalog.find(kind, name, where)
    make = entry.load_maker()
    with entry.named_in_errors():
        made = _called(make, name, where, arguments, entry.target)
    if not isinstance(made, base):
        raise PluginError(
            f"{where}: {name!r} ({entry.target}) gives a {type(made).__name__}, and a {base.__name__} is needed.\n"
            f"    offered by   {entry.distribution} {entry.version}"
        )
    return made


def _called(make: Callable[..., Any], name: str, where: str, arguments: dict[str, Any], target: str) -> Any:
    signature = inspect.signature(make)
    # Bound ahead of the call, so that a TypeError from within the constructor is not taken for a wrong argument.
    try:
        signature.bind(**arguments)
    except TypeError as error:
        unknown = [argument for argument in arguments if argument not in signature.parameters]
        if unknown:
            raise UnknownArgumentError(f"argument of {name!r}", unknown[0], signature.parameters, where) from None
        raise ConfigError(f"{where}: {name!r} ({target}) cannot be made: {error}.") from error
    return make(**arguments)
