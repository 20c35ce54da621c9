"""What the user's own objects hold beside what a checkpoint knows: attributes, generators, counters, caches, globals.

A run that is resumed has new objects. What they held when it was stopped is lost, unless somebody saved it.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from trainkit.module import TrainModule

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

Owner = Literal["module", "callback", "data module", "data", "program"]

DEEPEST = 8
"""So many objects within each other are looked into."""

MOST = 500
"""So many entries of a container, and attributes of an object, are looked at; of larger ones the first and the last."""

LARGEST = 4096
"""So many values of a tensor are looked at; of a larger one as many, evenly spaced. A data set may be one."""

# Their state is in a checkpoint, or is nothing that a user keeps.
_NOT_ENTERED = ("trainkit", "torch", "torchmetrics", "omegaconf", "numpy")
# But these hold what the user gave them, in public attributes.
_CONTAINERS = ("torch.utils.data", "torchvision.transforms", "torchvision.datasets", "trainkit.data")
_OF_EVERY_MODULE = frozenset(vars(TrainModule())) | {"training", "trainer"}


@dataclass(frozen=True)
class Held:
    """A value that an object holds.

    Attributes:
        name: Where, such as ``Digits.counter`` or ``train_dataloader.dataset.generator``.
        owner: Whose it is, which decides how it can be saved.
        kind: ``tensor``, ``generator`` or ``value``.
        value: The value, reduced to plain containers, numbers and tensors.
        shown: The value in at most 40 characters.
    """

    name: str
    owner: Owner
    kind: str
    value: Any
    shown: str


def held(trainer: Trainer, module: TrainModule) -> Iterator[Held]:
    """Yield what is held by the module, the plugins, the data module and the loaders, and by their classes and files.

    Only attributes are read: no property is called and nothing is drawn.
    """
    walk = _Walk()
    yield from walk.into(module, type(module).__name__, "module")
    for name, plugin in trainer.hooks.plugins:
        yield from walk.into(plugin, name, "callback")
    yield from walk.into(trainer.datamodule, type(trainer.datamodule).__name__, "data module")
    yield from walk.into(trainer.train_dataloader, "train_dataloader", "data")
    yield from walk.into(trainer.val_dataloaders, "val_dataloaders", "data")
    yield from walk.into_classes_and_files()


class _Walk:
    """One walk through all objects, which enters none twice."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # with the objects, so that none is freed and its id used again
        self._classes: dict[type, None] = {}

    def into(self, value: Any, name: str, owner: Owner, depth: int = 0) -> Iterator[Held]:
        """Yield what ``value`` is, or what it holds."""
        if value is None or id(value) in self._seen or depth > DEEPEST:
            return
        self._seen[id(value)] = value
        if isinstance(value, list | tuple | deque | Mapping):
            entries = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, each in itertools.islice(entries, MOST):
                if isinstance(each, list | tuple | deque | Mapping) or not _is_plain(each):
                    yield from self.into(each, f"{name}[{key!r}]", owner, depth + 1)
            return
        for attribute, each in _attributes(value):
            below = f"{name}.{attribute}"
            if _is_plain(each):
                yield Held(below, owner, _kind(each), _reduced(each), _shown(each))
            yield from self.into(each, below, owner, depth + 1)
        if _is_entered(type(value)):
            self._classes |= dict.fromkeys(each for each in type(value).__mro__ if _is_entered(each))

    def into_classes_and_files(self) -> Iterator[Held]:
        """Yield the attributes of the classes that were met, and the globals of the files in which they are."""
        for each in self._classes:
            yield from _plain_of(vars(each), each.__name__, " (of the class)")
        for name in dict.fromkeys(each.__module__ for each in self._classes):
            file = sys.modules.get(name)
            if file is not None and "site-packages" not in (getattr(file, "__file__", None) or ""):
                yield from _plain_of(vars(file), name, " (a global)")


def _plain_of(values: Mapping[str, Any], name: str, what: str) -> Iterator[Held]:
    for attribute, value in values.items():
        if not attribute.startswith("__") and _is_plain(value):
            yield Held(f"{name}.{attribute}{what}", "program", _kind(value), _reduced(value), _shown(value))


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an object that a user may have set."""
    kind = type(value)
    attributes = getattr(value, "__dict__", {})
    if isinstance(value, type | ModuleType):
        return
    if isinstance(value, nn.Module):
        yield from value.named_children()
        # Parameters and buffers are in every checkpoint, and what a TrainModule itself sets is none of the user's.
        own = [name for name in attributes if name not in _OF_EVERY_MODULE and not hasattr(TrainModule, name)]
        attributes = {name: attributes[name] for name in own}
    if isinstance(value, DataLoader):
        names = ("dataset", "batch_sampler", "sampler", "collate_fn", "generator")
        yield from ((name, getattr(value, name)) for name in names)
    if _is_entered(kind) or kind.__module__.startswith(_CONTAINERS):
        is_own = _is_entered(kind)
        for name, each in itertools.islice([*attributes.items()], MOST):
            # Hyperparameters are made ready when they are first read, and are in every checkpoint.
            if (is_own or not name.startswith("_")) and not name.startswith("_hparams"):
                yield name, each


def _is_entered(kind: type) -> bool:
    top = kind.__module__.partition(".")[0]
    return top not in _NOT_ENTERED and top not in sys.stdlib_module_names


def _is_plain(value: Any) -> bool:
    """Whether a value says all that it is by itself: a number, a tensor, a generator, a container."""
    plain = (str, bytes, int, float, complex, Tensor, np.ndarray, np.generic, list, tuple, dict, set, deque)
    return value is None or isinstance(value, plain) or _is_generator(value) or isinstance(value, itertools.count)


def _is_generator(value: Any) -> bool:
    return isinstance(value, torch.Generator | np.random.Generator | np.random.RandomState | random.Random)


def _kind(value: Any) -> str:
    return "generator" if _is_generator(value) else "tensor" if isinstance(value, Tensor) else "value"


def _shown(value: Any) -> str:
    if _is_generator(value):
        return "one state"
    if isinstance(value, Tensor | np.ndarray):
        count = value.numel() if isinstance(value, Tensor) else value.size
        return repr(value.item()) if count == 1 else f"values of shape {list(value.shape)}"
    if isinstance(value, list | tuple | deque | set | Mapping) and len(value) > 5:
        return f"{len(value)} entries"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _reduced(value: Any, depth: int = 0) -> Any:
    """Return a value of which two can be compared: large ones in part, objects by their class alone."""
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return _reduced(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return _reduced(value.get_state())
    if isinstance(value, random.Random):
        return str(value.getstate())
    if isinstance(value, Tensor | np.ndarray):
        return _spaced(value)
    if isinstance(value, set):
        return sorted(map(repr, value))[:MOST]
    if depth > DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return {repr(key): _reduced(each, depth + 1) for key, each in _ends([*value.items()])} | {"len": len(value)}
    if isinstance(value, list | tuple | deque):
        return [len(value), *(_reduced(each, depth + 1) for each in _ends(list(value)))]
    if value is None or isinstance(value, str | bytes | int | float | complex | np.generic):
        return value
    return repr(value) if isinstance(value, itertools.count) else type(value).__qualname__


def _ends(values: list[Any]) -> list[Any]:
    return values if len(values) <= MOST else values[: MOST // 2] + values[-MOST // 2 :]


def _spaced(values: Any) -> Any:
    count = values.numel() if isinstance(values, Tensor) else values.size
    if count <= LARGEST:
        return values
    return values.reshape(-1)[:: -(-count // LARGEST)]
