"""The loops that one would write by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.tasks import MAX_NORM, Batch, Task, loss_of, schedule


def training_loop(
    task: Task,
    batch: Batch,
    *,
    accumulate: int = 1,
    device: str = "cpu",
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
) -> Callable[[int], None]:
    """Return a function that makes so many steps on ``batch``; ``wrap`` lets ranks share the network."""
    network = task.network().to(device)
    network.train()
    optimizer = task.configure(network)
    network = wrap(network)

    def train(steps: int) -> None:
        for _ in range(steps):
            loss = loss_of(network, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()

    def train_in_groups(steps: int) -> None:
        for step in range(steps):
            loss = loss_of(network, batch) / accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            if (step + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()

    def train_in_low_precision(steps: int) -> None:
        for _ in range(steps):
            with torch.autocast(device, task.autocast):
                loss = loss_of(network, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    if task.autocast is not None:
        return train_in_low_precision
    return train if accumulate == 1 else train_in_groups


def real_loop(task: Task, batch: Batch) -> Callable[[int], None]:
    """Return a function that makes so many steps with clipped gradients and a schedule."""
    network = task.network()
    network.train()
    optimizer = task.configure(network)
    scheduler = schedule(optimizer)

    def train(steps: int) -> None:
        for _ in range(steps):
            loss = loss_of(network, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_NORM)
            optimizer.step()
            scheduler.step()

    return train


def with_validation(task: Task, batch: Batch, val_steps: int) -> Callable[[int], None]:
    """Return a function that makes so many steps, and then evaluates ``val_steps`` batches."""
    network = task.network()
    optimizer = task.configure(network)

    def train_and_validate(steps: int) -> None:
        network.train()
        for _ in range(steps):
            loss = loss_of(network, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        network.eval()
        with torch.no_grad():
            for _ in range(val_steps):
                loss_of(network, batch)

    return train_and_validate
