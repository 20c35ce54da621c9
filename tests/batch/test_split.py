from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from trainkit.batch.split import Splitter, count_samples, gather, split, weighted_mean
from trainkit.errors import DataError

CPU = torch.device("cpu")
WHO = Splitter("strategy 'some'", "use one device")
Pair = namedtuple("Pair", ["x", "names"])


# Splitting


@given(samples=st.integers(0, 20), size=st.integers(1, 25))
def test_the_parts_are_the_batch_in_its_order_and_only_the_last_is_smaller(samples: int, size: int) -> None:
    parts, sizes = split(torch.arange(samples), size, WHO)
    assert torch.cat(parts).tolist() == list(range(samples))
    assert sizes == [len(part) for part in parts]
    assert sizes[:-1] == [size] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= size or samples == 0


def test_parts_are_views_of_the_batch() -> None:
    batch = torch.zeros(4)
    (first, second), _ = split(batch, 2, WHO)
    second.fill_(1.0)
    assert batch.tolist() == [0, 0, 1, 1]
    assert first.tolist() == [0, 0]


def test_what_has_a_row_for_each_sample_is_split_and_all_else_goes_to_each_part_whole() -> None:
    x = torch.arange(3)
    batch = {
        "pair": Pair(x, ["a", "b", "c"]),
        "nested": [{"y": x[:, None]}],
        "other rows": torch.ones(2),
        "no rows": torch.tensor(3.0),
        "three tensors": [torch.ones(3), torch.ones(3), torch.ones(3)],
        "text": "abc",
    }
    (first, second), sizes = split(batch, 2, WHO)
    assert sizes == [2, 1]
    assert isinstance(second["pair"], Pair)
    assert (first["pair"].names, second["pair"].names) == (["a", "b"], ["c"])
    assert (second["pair"].x.tolist(), second["nested"][0]["y"].tolist()) == ([2], [[2]])
    assert [len(tensor) for tensor in second["three tensors"]] == [1, 1, 1]
    for part in (first, second):
        assert (part["other rows"].tolist(), part["no rows"].item(), part["text"]) == ([1, 1], 3.0, "abc")


def test_a_tensor_with_no_rows_is_not_split_in_a_batch_without_samples_either() -> None:
    (part,), sizes = split([torch.zeros(0, 2), torch.tensor(1.0)], 4, WHO)
    assert sizes == [0]
    assert (part[0].shape, part[1].item()) == ((0, 2), 1.0)


def test_the_first_tensor_with_rows_counts_the_samples() -> None:
    assert count_samples([torch.tensor(1.0), torch.ones(3, 2), torch.ones(5)], WHO) == 3


@pytest.mark.parametrize("batch", ["text", {"a": 1}, torch.tensor(1.0)])
def test_a_batch_without_rows_is_refused_in_the_name_of_who_asks(batch: Any) -> None:
    message = rf"(?s)strategy 'some' cannot split a batch of type {type(batch).__name__}.*use one device"
    with pytest.raises(DataError, match=message):
        split(batch, 2, WHO)


def test_an_object_that_only_knows_how_to_move_is_refused() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.ones(2), torch.ones(1)])
    with pytest.raises(DataError, match=r"(?s)cannot split a PackedSequence.*its tensors.*use one device"):
        split((torch.ones(2), packed), 1, WHO)


# Joining


def test_losses_are_averaged_by_sample() -> None:
    assert_close(gather([torch.tensor(1.0), torch.tensor(4.0)], [2, 1], CPU), torch.tensor(2.0))
    joined = gather([{"loss": torch.tensor(1.0)}, {"loss": torch.tensor(4.0)}], [2, 1], CPU)
    assert_close(joined, {"loss": torch.tensor(2.0)})


@given(losses=st.lists(st.floats(-9, 9), min_size=1, max_size=6), data=st.data())
def test_the_mean_of_parts_is_that_of_their_samples(losses: list[float], data: st.DataObject) -> None:
    counts = [data.draw(st.integers(1, 5)) for _ in losses]
    mean = weighted_mean([torch.tensor(loss, dtype=torch.float64) for loss in losses], counts, CPU)
    each = [loss for loss, count in zip(losses, counts, strict=True) for _ in range(count)]
    assert mean.item() == pytest.approx(sum(each) / len(each))


def test_gradients_of_a_joined_loss_are_those_of_the_whole() -> None:
    weight = torch.ones(3, requires_grad=True)
    parts, counts = split(torch.arange(3.0), 2, WHO)
    loss = gather([(weight[: len(part)] * part).mean() for part in parts], counts, CPU)
    loss.backward()
    # Of weight[0]: (0 * 2/3 / 2) + (2 * 1/3), and so on.
    assert weight.grad is not None
    assert_close(weight.grad, torch.tensor([2 / 3, 1 / 3, 0.0]))


def test_a_loss_with_a_weight_beside_it_is_a_sum() -> None:
    outputs = [{"loss": torch.tensor(1.0), "weight": 2}, {"loss": torch.tensor(4.0), "weight": 3}]
    joined = gather(outputs, [2, 1], CPU)
    assert (joined["loss"].item(), joined["weight"]) == (5.0, 5)


def test_other_entries_are_concatenated_by_row_averaged_as_numbers_and_listed_else() -> None:
    def output(rows: int, number: float) -> dict[str, Any]:
        return {
            "loss": torch.tensor(number),
            "predictions": torch.full((rows, 2), number),
            "accuracy": torch.tensor([number]),
            "matrix": torch.full((2, 2), number),
            "name": f"part {rows}",
        }

    joined = gather([output(3, 0.0), output(1, 4.0)], [3, 1], CPU)
    assert joined["predictions"].tolist() == [[0, 0]] * 3 + [[4, 4]]
    assert joined["accuracy"].tolist() == [1.0]
    assert [matrix.tolist() for matrix in joined["matrix"]] == [[[0, 0], [0, 0]], [[4, 4], [4, 4]]]
    assert joined["name"] == ["part 3", "part 1"]


def test_parts_that_skipped_do_not_count() -> None:
    assert gather([None, None], [3, 2], CPU) is None
    assert_close(gather([None, torch.tensor(4.0)], [3, 2], CPU), torch.tensor(4.0))
    rows: list[Any] = [{"loss": torch.tensor(1.0), "rows": torch.ones(2)}, None]
    assert gather(rows, [2, 3], CPU)["rows"].tolist() == [1, 1]


def test_what_no_step_may_return_reaches_the_loop_as_it_is() -> None:
    assert gather(["text", "text"], [1, 1], CPU) == "text"
    assert gather([{"loss": 0.5}, {"loss": 0.5}], [1, 1], CPU) == {"loss": [0.5, 0.5]}


def test_one_part_is_returned_without_arithmetic() -> None:
    loss: Tensor = torch.tensor(0.1)
    assert weighted_mean([loss], [0], CPU) is loss


# Lists of samples

IMAGES = [torch.full((3, height, 4), float(height)) for height in (5, 6, 7, 8)]


def test_samples_of_different_shapes_are_split_by_items() -> None:
    parts, sizes = split((IMAGES, torch.arange(4), [{"boxes": torch.zeros(n, 4)} for n in range(4)]), 3, WHO)
    assert sizes == [3, 1]
    assert [len(part) for part in parts[0]] == [3, 3, 3]
    assert [(part[0][0] is IMAGES[3], part[1].tolist(), len(part[2][0]["boxes"])) for part in parts[1:]] == [
        (True, [3], 3)
    ]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_images_and_sequences_alone_are_split_by_items(count: int) -> None:
    for samples in (IMAGES[:count], [image[0] for image in IMAGES[:count]]):
        parts, sizes = split(samples, 2, WHO)
        assert sizes == [2] + [count - 2] * (count > 2)
        assert all(new is old for new, old in zip(sum(parts, []), samples, strict=True))  # noqa: RUF017


def test_inputs_and_targets_are_split_by_rows() -> None:
    for batch in ([torch.zeros(2, 5), torch.zeros(2, 1)], (torch.zeros(2, 5), torch.zeros(2, 1))):
        parts, sizes = split(batch, 1, WHO)
        assert sizes == [1, 1]
        assert [[len(tensor) for tensor in part] for part in parts] == [[1, 1], [1, 1]]


def test_what_the_loader_knows_decides() -> None:
    sounds = [torch.zeros(2, 30), torch.zeros(2, 20), torch.zeros(2, 40)]
    assert split(sounds, 2, WHO, lambda: 3)[1] == [2, 1]
    assert split(sounds, 1, WHO)[1] == [1, 1]
