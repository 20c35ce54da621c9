"""Whether all ranks have the same data, of which each takes its part, and draw its order alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import ConcatDataset, DataLoader, DistributedSampler, Subset

from trainkit.data.combined import CombinedLoader
from trainkit.data.dataloader_copy import samplers_of
from trainkit.data.loaders import LimitedLoader, length_of
from trainkit.data.resume.content import checksum, content_of
from trainkit.data.resume.cursor import generators_of
from trainkit.data.sampler import is_shard
from trainkit.errors import RankError
from trainkit.output import warn
from trainkit.strategies.base import Strategy


def warn_of_other_data(strategy: Strategy, loaders: Iterable[LimitedLoader]) -> None:
    """Warn of ``loaders`` that are dealt to ranks and have other samples on some. Every rank has to call this.

    A split that each rank draws for itself has samples of one rank's training in the validation of another.
    """
    if not strategy.is_distributed:
        return
    loaders = list(loaders)
    own = [(each.name, _fingerprint(part)) for each in loaders for part in _dealt(each.loader)]
    gathered = strategy.all_gather_object(([(each.name, each.num_batches) for each in loaders], own))
    _require_same_lengths([lengths for lengths, _ in gathered])
    ranks = [prints for _, prints in gathered]
    differing = {name for every in zip(*ranks, strict=False) if len(set(every)) > 1 for name, _ in every}
    if differing and strategy.is_global_zero:
        warn(
            f"{' and '.join(sorted(differing))}: the ranks have other samples than each other, and each takes its part "
            "of its own. Such as a random_split without a seed: draw it in setup(), which draws alike on all ranks, or "
            "with generator=torch.Generator().manual_seed(0). If each rank is to have data of its own, say "
            "Trainer(use_distributed_sampler=False)."
        )


def share_generators(strategy: Strategy, loaders: Iterable[LimitedLoader]) -> None:
    """Let generators that draw the order of dealt samples go on from rank 0's states. Every rank has to come here.

    A generator that each rank has seeded for itself would give each an order of its own, and in the parts that they
    take of these some samples would be missing and others there twice.
    """
    generators = [each for loader in loaders for part in _dealt(loader.loader) for each in generators_of(part)]
    states = strategy.broadcast_object([each.get_state().cpu() for each in generators])
    for generator, state in zip(generators, states, strict=False):
        generator.set_state(state)


def _require_same_lengths(ranks: list[list[tuple[str, int | None]]]) -> None:
    """Raise `RankError` on every rank if they have other loaders, or other numbers of batches to train on."""
    told = [dict(lengths) for lengths in ranks]
    # Evaluation takes what each rank has; training exchanges gradients in each batch.
    names = [name for name in told[0] if any(other.keys() != told[0].keys() for other in told)] or ["train_dataloader"]
    for name in names:
        if len({each.get(name, 0) for each in told}) > 1:
            counts = ", ".join(f"{each.get(name, 'none')} on rank {rank}" for rank, each in enumerate(told))
            raise RankError(
                f"{name} has different numbers of batches: {counts}. All ranks train on equally many, and have the "
                "same loaders.\n"
                "    to do        give all ranks the whole data in a map-style dataset, which is dealt to them evenly; "
                "or say limit_train_batches"
            )


def _dealt(loader: Any) -> Iterator[Any]:
    """Return the loaders in ``loader`` of which each rank gets a part, by our sampler or by torch's."""
    if isinstance(loader, CombinedLoader):
        for inner in loader.flattened:
            yield from _dealt(inner)
    elif is_shard(loader) or any(isinstance(sampler, DistributedSampler) for sampler in samplers_of(loader)):
        yield loader


def _fingerprint(data: Any) -> int:
    """Return a checksum of what is known of ``data`` without asking it for samples, such as the indices of a split."""
    data = data.dataset if isinstance(data, DataLoader) else data
    content = content_of(data)
    if content is not None:
        return content
    if isinstance(data, Subset):
        return checksum(list(data.indices), _fingerprint(data.dataset))
    if isinstance(data, ConcatDataset):
        return checksum([_fingerprint(each) for each in data.datasets])
    return checksum([type(data).__name__, length_of(data)])
