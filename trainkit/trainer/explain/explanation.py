"""`Explanation`, all that is told of a fit before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from trainkit.trainer.explain.page import page


class LoaderFacts(NamedTuple):
    """What is known of a loader.

    Attributes:
        name: ``train`` or ``val``, numbered where there are several.
        batches: Batches of this process in an epoch, limits considered; None if nobody knows.
        batch_size: Samples of each but the last; None if the loader does not tell.
        samples: Samples of all ranks in an epoch; None if nobody knows.
        order: How they are drawn, in words.
    """

    name: str
    batches: int | None
    batch_size: int | None
    samples: int | None
    order: str


class Writer(NamedTuple):
    """Somebody who writes.

    Attributes:
        path: The folder or file.
        who: The plugin.
        what: What is written, and when.
    """

    path: str
    who: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a fit is going to do. As text it is one page of 80 columns.

    Attributes:
        module: The name of the module's class.
        place: Device, strategy, precision and processes, in words.
        ranks: How many processes have data of their own.
        loaders: The training loader, then those for validation.
        epochs: Epochs that are left; infinite if there is no limit of them.
        batches: Batches that are left; None if nobody knows.
        updates: Updates that are left; infinite if nobody knows.
        accumulation: Batches for each update, in the first epoch.
        validation: When it validates, in words; empty if it does not.
        start: Where it starts from, in words.
        limits: What else may end it, in words.
        parameters: Trained parameters and frozen ones.
        memory: Bytes by what they are for: ``weights``, ``gradients``, ``optimizer``. Of activations nothing is known.
        sharding: How the module is dealt out to the ranks, in words; empty if each has all of it.
        step: Which step runs: ``plain``, ``general``, ``closure``, ``manual``, ``split`` or ``compiled``.
        why: Why it is not the plain one.
        hooks: The plugins at each hook that anybody joins, in the order of their calls.
        optimizers: The optimizers with their options, in words.
        schedulers: Likewise, the schedulers.
        rates: Lines that draw the learning rates.
        writers: Who writes what, and where.
        left_out: What could not be foreseen, and why.
    """

    module: str
    place: str
    ranks: int
    loaders: Sequence[LoaderFacts]
    epochs: float
    batches: int | None
    updates: float
    accumulation: int
    validation: str
    start: str
    limits: Sequence[str]
    parameters: tuple[int, int]
    memory: Mapping[str, int]
    sharding: Sequence[str]
    step: str
    why: Sequence[str]
    hooks: Mapping[str, Sequence[str]]
    optimizers: Sequence[str]
    schedulers: Sequence[str]
    rates: Sequence[str]
    writers: Sequence[Writer]
    left_out: Sequence[str]

    def __str__(self) -> str:
        return page(self)
