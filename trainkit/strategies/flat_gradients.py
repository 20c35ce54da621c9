"""The average of gradients over all ranks, exchanged in a few large pieces instead of one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parameter import is_lazy

T = TypeVar("T", bound=Tensor)

PIECE_BYTES = 25 * 2**20
"""How much is sent at once: large enough for full speed, as torch's own buckets, and small enough to be copied."""


class FlatGradients:
    """Averages gradients over the ranks. A missing one counts as zero; one that no rank has stays missing.

    Every rank has to take part in the same exchanges, so what is sent goes by the parameters and not by which of them
    have a gradient here: zeros are sent where there is none. Behind the gradients of a piece come two numbers for each
    parameter, of which the sums tell whether any rank has its gradient, and whether any has it sparse.

    A sparse gradient is sent dense the first time, when the other ranks cannot know that it is sparse, and as it is
    from then on.
    """

    def __init__(self) -> None:
        self._sparse: set[nn.Parameter] = set()  # equal on all ranks: what the sums have told

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average the gradients of ``parameters``, in place. Every rank has to call this, with the same parameters."""
        # A layer that is yet to be given its shape has no gradient anywhere.
        parameters = [each for each in parameters if not is_lazy(each)]
        pieces = [_Piece(members) for members in _pieces(each for each in parameters if each not in self._sparse)]
        for parameter in parameters:
            if parameter in self._sparse:
                _average_sparse(parameter)
        # All are under way by now, so that one is copied back while the next is sent.
        for piece in pieces:
            self._sparse.update(piece.finish())


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Give ``tensors`` the values that they have on rank 0. Every rank has to call this, with the same tensors."""
    for members in _pieces(each for each in tensors if not is_lazy(each)):
        flat = torch.cat([each.detach().reshape(-1) for each in members])
        dist.broadcast(flat.view(torch.uint8), src=0)  # backends do not know all dtypes
        if dist.get_rank() != 0:
            for tensor, values in zip(members, torch.split(flat, [each.numel() for each in members]), strict=True):
                tensor.detach().copy_(values.view_as(tensor))


class _Piece:
    """The gradients of some parameters of one dtype, on their way.

    Args:
        parameters: Whose gradients.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        gradients = [each.grad for each in parameters]
        marks = [[each is not None for each in gradients], [each is not None and each.is_sparse for each in gradients]]
        like = parameters[0]
        # Divided ahead of the sum, as torch does: half precision would overflow in it.
        flat = torch.cat([_flat(each) for each in parameters]).div_(dist.get_world_size())
        self._flat = torch.cat([flat, torch.tensor(marks, device=like.device).to(like.dtype).flatten()])
        self._work = dist.all_reduce(self._flat, async_op=True)

    def finish(self) -> Iterator[nn.Parameter]:
        """Wait for the sums, and write the averages into the gradients. Gives the parameters with sparse ones."""
        self._work.wait()
        count = len(self._parameters)
        *averages, marks = torch.split(self._flat, [*(each.numel() for each in self._parameters), 2 * count])
        somewhere, sparse = marks.view(2, count).ne(0).tolist()
        into, values = [], []
        for parameter, average, used, is_sparse in zip(self._parameters, averages, somewhere, sparse, strict=True):
            average = average.view_as(parameter)
            if is_sparse:
                parameter.grad = average.to_sparse(1)
                yield parameter
            elif parameter.grad is not None:
                # Into the same tensor, which may be a view of a bucket of DDP.
                into.append(parameter.grad)
                values.append(average)
            elif used:
                parameter.grad = average.clone(memory_format=torch.preserve_format)  # not a view, which keeps the piece
        if into:
            torch._foreach_copy_(into, values)


def _pieces(parameters: Iterable[T]) -> Iterator[list[T]]:
    """Give ``parameters`` in lists of one dtype and device, each of about `PIECE_BYTES`."""
    ordered = sorted(parameters, key=_kind)  # stable: within a kind the order stays that of the module
    for _, members in groupby(ordered, _kind):
        piece: list[T] = []
        size = 0
        for parameter in members:
            piece.append(parameter)
            size += parameter.numel() * parameter.element_size()
            if size >= PIECE_BYTES:
                yield piece
                piece, size = [], 0
        if piece:
            yield piece


def _kind(parameter: Tensor) -> tuple[str, str]:
    return str(parameter.dtype), str(parameter.device)


def _flat(parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    if gradient is None:
        return parameter.new_zeros(parameter.numel())
    return (gradient.to_dense() if gradient.is_sparse else gradient).to(parameter.dtype).reshape(-1)


def _average_sparse(parameter: nn.Parameter) -> None:
    """Average a gradient that has been sparse on some rank; it stays missing where no rank has an entry."""
    own = _no_entries(parameter) if parameter.grad is None else parameter.grad
    total = (own if own.is_sparse else own.to_sparse(1)).coalesce().clone()
    dist.all_reduce(total)  # backends add up tensors of different numbers of entries
    if parameter.grad is not None or total.coalesce().values().numel():
        parameter.grad = total / dist.get_world_size()


def _no_entries(parameter: nn.Parameter) -> Tensor:
    indices = torch.empty(1, 0, dtype=torch.int64, device=parameter.device)
    values = parameter.detach().new_empty(0, *parameter.shape[1:])
    return torch.sparse_coo_tensor(indices, values, parameter.shape, check_invariants=True)
