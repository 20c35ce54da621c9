"""Reading the pickle in a checkpoint: a small machine that makes plain data, and knows no way to do anything else.

Python's own, given a list of what may be called, still changes what it calls, takes any amount of memory for a number
in the file, and any time for a set of tuples that repeat one another. Here each instruction makes one value of a known
type out of bytes that are there, or is refused. Known are those that pickle writes in protocol 2, as in ``torch.load``.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from struct import unpack
from time import thread_time
from typing import Any

import torch
from torch import Tensor

from trainkit.storage.constructors import NAMES, Constructor, Memory, StorageType, full_name, give_attributes
from trainkit.storage.plain import NotPlainError, check_keys


class ForeignCodeError(pickle.UnpicklingError):
    """A pickle has to be able to run code for what it describes; the message is what it names, if it is a name."""


_SIZED = (str, bytes, list, tuple, dict)

_AT_ONCE = 1000
"""How many keys are inserted before it is looked how long that took."""

_MOST_S = 1.0
"""How many seconds keys other than strings may take, beside those that follow for each: a few that are made for it
could take any time. Others take a hundredth of that, on a slow machine too."""
_MOST_S_FOR_ONE = 1e-5

_Operation = Callable[["Unpickler"], None]
_OPERATIONS: dict[bytes, _Operation] = {}


def _on(*codes: bytes) -> Callable[[_Operation], _Operation]:
    """Make a method the one that carries out the instructions ``codes``."""

    def register(operation: _Operation) -> _Operation:
        _OPERATIONS.update(dict.fromkeys(codes, operation))
        return operation

    return register


class Unpickler:
    """Makes the value that a pickle describes.

    Args:
        data: The pickle.
        memory: Returns the memory of tensors that is asked for: its dtype, key, location and number of elements.
        names: What each name stands for.
    """

    def __init__(
        self,
        data: bytes,
        memory: Callable[[torch.dtype, str, str, int], Memory],
        names: Mapping[str, Any] = NAMES,
    ) -> None:
        file = BytesIO(data)
        self._read, self._readline = file.read, file.readline
        self._memory, self._names = memory, names
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []  # the stacks below those that a MARK has begun
        self._memo: dict[int, Any] = {}
        # What is given to functions is part of the pickle, or of the memory that it asks for, and given once.
        self._budget = 2 * len(data)
        self._asked: set[str] = set()
        self._num_keys, self._keys_s = 0, 0.0

    def load(self) -> Any:
        """Return the value.

        Raises:
            ForeignCodeError: If it is no plain data, but an object of some class.
            NotPlainError: If it would take memory or time that has nothing to do with the length of the pickle.
            Exception: Of any kind, if the pickle is made up.
        """
        read, operations = self._read, _OPERATIONS
        while (code := read(1)) != pickle.STOP:
            operation = operations.get(code)
            if operation is None:
                raise ForeignCodeError
            operation(self)
        return self._stack.pop()

    # The stack and the memo

    @_on(pickle.PROTO)
    def _protocol(self) -> None:
        self._read(1)

    @_on(pickle.MARK)
    def _mark(self) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _pop_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._marked.pop()
        return values

    @_on(pickle.BINPUT)
    def _put(self) -> None:
        self._memo[self._read(1)[0]] = self._stack[-1]

    @_on(pickle.LONG_BINPUT)
    def _long_put(self) -> None:
        self._memo[int.from_bytes(self._read(4), "little")] = self._stack[-1]

    @_on(pickle.BINGET)
    def _get(self) -> None:
        self._stack.append(self._memo[self._read(1)[0]])

    @_on(pickle.LONG_BINGET)
    def _long_get(self) -> None:
        self._stack.append(self._memo[int.from_bytes(self._read(4), "little")])

    # Values

    @_on(pickle.NONE)
    def _none(self) -> None:
        self._stack.append(None)

    @_on(pickle.NEWTRUE)
    def _true(self) -> None:
        self._stack.append(True)

    @_on(pickle.NEWFALSE)
    def _false(self) -> None:
        self._stack.append(False)

    @_on(pickle.BININT)
    def _int(self) -> None:
        self._stack.append(int.from_bytes(self._read(4), "little", signed=True))

    @_on(pickle.BININT1)
    def _int1(self) -> None:
        self._stack.append(self._read(1)[0])

    @_on(pickle.BININT2)
    def _int2(self) -> None:
        self._stack.append(int.from_bytes(self._read(2), "little"))

    @_on(pickle.LONG1)
    def _long_int(self) -> None:
        self._stack.append(int.from_bytes(self._read(self._read(1)[0]), "little", signed=True))

    @_on(pickle.BINFLOAT)
    def _float(self) -> None:
        self._stack.append(unpack(">d", self._read(8))[0])

    @_on(pickle.BINUNICODE)
    def _text(self) -> None:
        length = int.from_bytes(self._read(4), "little")
        self._stack.append(str(self._read(length), "utf-8", "surrogatepass"))

    # Containers

    @_on(pickle.EMPTY_TUPLE)
    def _empty_tuple(self) -> None:
        self._stack.append(())

    @_on(pickle.TUPLE1)
    def _tuple1(self) -> None:
        self._stack[-1:] = [(self._stack[-1],)]

    @_on(pickle.TUPLE2)
    def _tuple2(self) -> None:
        self._stack[-2:] = [tuple(self._stack[-2:])]

    @_on(pickle.TUPLE3)
    def _tuple3(self) -> None:
        self._stack[-3:] = [tuple(self._stack[-3:])]

    @_on(pickle.TUPLE)
    def _tuple(self) -> None:
        values = self._pop_mark()
        self._stack.append(tuple(values))

    @_on(pickle.EMPTY_LIST)
    def _empty_list(self) -> None:
        self._stack.append([])

    @_on(pickle.APPEND)
    def _append(self) -> None:
        value = self._stack.pop()
        self._extend([value])

    @_on(pickle.APPENDS)
    def _appends(self) -> None:
        self._extend(self._pop_mark())

    def _extend(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise ForeignCodeError
        self._stack[-1].extend(values)

    @_on(pickle.EMPTY_DICT)
    def _empty_dict(self) -> None:
        self._stack.append({})

    @_on(pickle.SETITEM)
    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key], [value])

    @_on(pickle.SETITEMS)
    def _set_items(self) -> None:
        items = self._pop_mark()
        self._update(items[::2], items[1::2])

    def _update(self, keys: list[Any], values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) not in (dict, OrderedDict):
            raise ForeignCodeError
        # By the type's own method, as an OrderedDict may have any attribute.
        update = partial(type(target).update, target)
        self._insert(keys, lambda part: update(zip(keys[part], values[part], strict=True)))

    def _insert(self, keys: list[Any], insert: Callable[[slice], None]) -> None:
        """Insert keys into a dict or set, in parts, and look how long that takes."""
        if set(map(type, keys)) <= {str}:  # whose hashes nobody knows ahead
            insert(slice(None))
            return
        check_keys(keys)
        for start in range(0, len(keys), _AT_ONCE):
            before = thread_time()
            insert(slice(start, start + _AT_ONCE))
            self._keys_s += thread_time() - before
            self._num_keys += len(keys[start : start + _AT_ONCE])
            if self._keys_s > _MOST_S + self._num_keys * _MOST_S_FOR_ONE:
                raise NotPlainError("its keys are made to take long")

    # What is named, and memory

    @_on(pickle.GLOBAL)
    def _global(self) -> None:
        name = full_name(*(self._readline()[:-1].decode() for _ in range(2)))
        if name not in self._names:
            raise ForeignCodeError(name)
        self._stack.append(self._names[name])

    @_on(pickle.REDUCE)
    def _call(self) -> None:
        arguments = self._stack.pop()
        called = self._stack[-1]
        if not isinstance(called, Constructor) or type(arguments) is not tuple:
            raise ForeignCodeError
        self._spend(sum(map(_weight, arguments)))
        if called.make is set and [*map(type, arguments)] == [list]:
            self._stack[-1] = values = set[Any]()
            self._insert(arguments[0], lambda part: values.update(arguments[0][part]))
        else:
            self._stack[-1] = called(arguments)

    @_on(pickle.BUILD)
    def _build(self) -> None:
        attributes = self._stack.pop()
        if type(self._stack[-1]) is not OrderedDict or type(attributes) is not dict:
            raise ForeignCodeError
        self._spend(len(attributes))
        give_attributes(self._stack[-1], attributes)

    @_on(pickle.BINPERSID)
    def _storage(self) -> None:
        asked = self._stack.pop()
        kinds = [*map(type, asked)] if type(asked) is tuple else []
        if kinds != [str, StorageType, str, str, int] or asked[0] != "storage":
            raise ForeignCodeError
        _, storage_type, key, location, count = asked
        memory = self._memory(storage_type.dtype, key, location, count)
        if key not in self._asked:
            self._asked.add(key)
            self._budget += memory.storage.nbytes()
        self._stack.append(memory)

    def _spend(self, amount: int) -> None:
        """Count what a function is given."""
        self._budget -= amount
        if self._budget < 0:
            raise NotPlainError("it makes more than it holds")


def _weight(argument: Any) -> int:
    """Return how much an argument holds, those in a tuple included."""
    if type(argument) is tuple:
        return len(argument) + sum(each.numel() if type(each) is Tensor else _length(each) for each in argument)
    return _length(argument)


def _length(value: Any) -> int:
    return len(value) if type(value) in _SIZED else 0
