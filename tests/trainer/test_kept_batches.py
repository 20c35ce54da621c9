"""Whether a run that goes on with other ranks keeps its global batches, by what its loaders say."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils.data import BatchSampler, DataLoader

from trainkit.data.combined import CombinedLoader
from trainkit.data.global_batches import sampler_of
from trainkit.errors import CheckpointError
from trainkit.trainer.kept_batches import GLOBAL_BATCH, KeptBatches


def saved(ranks: int, size: int | None, by: int | None = None, **more: Any) -> dict[str, Any]:
    return {"trainkit": {GLOBAL_BATCH: {"ranks": ranks, "sizes": [size], **more}, "ranks": [{}] * (by or ranks)}}


def loader(size: int) -> Any:
    return DataLoader(range(60), size)


@pytest.mark.parametrize(
    ("ranks", "said", "own"), [(3, 6, 4), (1, 6, 12), (1, 12, 12), (3, 4, 4), (5, 6, 3), (4, 3, 3)]
)
def test_the_global_batch_is_kept_whether_the_code_says_the_old_size_or_one_that_fits(ranks: int, said: int, own: int):
    kept = KeptBatches(0, ranks, saved(2, 6))
    part = kept.deal(loader(said), seed=0)
    assert kept.why_not == ""
    assert part.batch_size == own
    assert sampler_of(part).batch.samples == 12
    kept.require("file.ckpt")
    assert kept.state_dict() == {"ranks": 2, "sizes": [6], "moved": True, "validated": None}


def test_it_is_kept_from_the_beginning_of_the_run_on_and_not_from_the_run_before():
    part = KeptBatches(0, 3, saved(2, 6, by=1)).deal(loader(6), seed=0)
    assert part.batch_size == 4
    # Back where it began, from a place that is that of another rank.
    again = KeptBatches(0, 2, saved(2, 6, by=3)).deal(loader(6), seed=0)
    assert again.batch_size == 6
    assert sampler_of(again).is_even


def test_with_the_same_ranks_nothing_is_done():
    for kept in (KeptBatches(0, 2), KeptBatches(0, 2, saved(2, 6)), KeptBatches(0, 2, {"trainkit": {"ranks": [{}]}})):
        assert kept.deal(loader(6), seed=0) is None
        assert kept.why_not == ""
        assert kept.state_dict()["sizes"] == [6]


@pytest.mark.parametrize(
    ("given", "checkpoint", "reason"),
    [
        (loader(8), saved(2, 6), "24 samples are a batch of 3 rank(s) now, and 12 were one of 2"),
        (loader(1), saved(2, 1), "a global batch has 2 samples, and there are 3 ranks"),
        ([1, 2], saved(2, None), "nothing in a list goes by an index"),
        (CombinedLoader({"a": loader(6), "b": loader(6)}), saved(2, 6), "consists of 2 loaders, and had 1"),
    ],
)
def test_where_it_cannot_be_kept_the_middle_of_an_epoch_is_refused(given: Any, checkpoint: Any, reason: str):
    kept = KeptBatches(0, 3, checkpoint)
    assert kept.deal(given, seed=0) is None
    assert reason in kept.why_not
    with pytest.raises(CheckpointError, match="saved by 2 ranks in the middle of an epoch, and there are 3 now"):
        kept.require("file.ckpt")


def test_loaders_side_by_side_are_shared_out_evenly_or_not_at_all():
    given, checkpoint = CombinedLoader({"a": loader(6), "b": loader(3)}), saved(2, 6)
    checkpoint["trainkit"][GLOBAL_BATCH]["sizes"] = [6, 3]
    kept = KeptBatches(1, 3, checkpoint)
    parts = kept.deal(given, seed=0)
    assert [each.batch_size for each in parts.flattened] == [4, 2]
    kept = KeptBatches(1, 3, checkpoint)
    short = CombinedLoader({"a": loader(6), "b": DataLoader(range(58), 3)})
    assert kept.deal(short, seed=0) is None, "its last batch has 4 samples"
    kept = KeptBatches(1, 4, checkpoint)
    assert kept.deal(given, seed=0) is None
    assert "cannot be dealt evenly to 4 ranks" in kept.why_not


def test_the_size_that_the_code_says_can_be_asked_for():
    kept = KeptBatches(0, 3, saved(2, 6), takes_code=True)
    assert kept.deal(loader(6), seed=0) is None
    assert kept.state_dict()["sizes"] == [6]
    with pytest.raises(CheckpointError, match="take='batch_size'"):
        kept.require("file.ckpt")


def test_an_older_checkpoint_does_not_tell():
    kept = KeptBatches(0, 3, {"trainkit": {"ranks": [{}, {}]}})
    assert kept.deal(loader(6), seed=0) is None
    with pytest.raises(CheckpointError, match="does not tell what its global batches are made of"):
        kept.require("file.ckpt")


def test_loaders_that_are_made_again_may_have_other_sizes():
    kept = KeptBatches(0, 3, saved(2, 6))
    kept.deal(loader(6), seed=0)
    assert kept.deal(loader(9), seed=0).batch_size == 6
    fitted = KeptBatches(0, 3, saved(2, 6))
    fitted.deal(loader(4), seed=0)
    assert fitted.deal(loader(6), seed=0).batch_size == 6


def test_loaders_that_are_made_again_and_cannot_be_dealt_so_are_told():
    for again in ([1, 2], loader(1)):
        kept = KeptBatches(0, 3, saved(2, 6))
        kept.deal(loader(6), seed=0)
        with pytest.warns(UserWarning, match="so the global batches are others than they were"):
            assert kept.deal(again, seed=0) is None


def test_as_many_samples_are_validated_as_before():
    checkpoint = saved(2, 6, validated={"limit": 3, "samples": [12]})
    kept = KeptBatches(0, 3, checkpoint)
    kept.deal(loader(6), seed=0)
    assert kept.validated(3, 1) == [12]
    assert kept.validated(4, 1) is None, "another limit is meant"
    assert KeptBatches(0, 2, checkpoint).validated(3, 1) is None, "the same ranks"


def test_what_is_not_dealt_is_not_kept():
    kept = KeptBatches(0, 3, saved(2, 6))
    kept.refuse("each has its own")
    with pytest.raises(CheckpointError, match="that were to come: each has its own"):
        kept.require("file.ckpt")
    alone = KeptBatches(0, 2, saved(2, 6))
    alone.refuse("each has its own")
    assert alone.why_not == ""


class Batches(BatchSampler):
    pass


def test_whole_batches_are_not_torn_apart():
    kept = KeptBatches(0, 3, saved(2, None))
    assert kept.deal(DataLoader(range(9), batch_sampler=Batches(range(9), 2, False)), seed=0) is None
    assert "Batches makes whole batches" in kept.why_not


def test_ranks_that_compute_a_batch_together_count_as_one():
    # Four ranks saved, of which two computed each half of a batch: the run had 2 x 6 samples.
    checkpoint = saved(2, 6, by=4, first_ranks=[0, 2])
    kept = KeptBatches(0, 3, checkpoint, first_ranks=[0, 1, 2])
    assert kept.saved_first_ranks == [0, 2]
    assert sampler_of(kept.deal(loader(6), seed=0)).batch.samples == 12
    assert kept.state_dict()["first_ranks"] == [0, 1, 2]
    same = KeptBatches(0, 2, checkpoint)
    assert same.deal(loader(6), seed=0) is None
    assert "first_ranks" not in same.state_dict()


@pytest.mark.parametrize("first_ranks", [[], [0, 4], [0, 0]])
def test_a_checkpoint_cannot_name_ranks_that_it_does_not_have(first_ranks: list[int]):
    with pytest.raises(CheckpointError, match="has 4 ranks, and says that"):
        KeptBatches(0, 2, saved(2, 6, by=4, first_ranks=first_ranks))
