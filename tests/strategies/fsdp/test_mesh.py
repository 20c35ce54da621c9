"""Which ranks have which data."""

from __future__ import annotations

import pytest

from trainkit.strategies.fsdp.mesh import place_in


@pytest.mark.parametrize(
    ("sizes", "data_ranks", "first_ranks"),
    [
        (None, [0, 1, 2, 3], (0, 1, 2, 3)),
        ({"replicate": 2, "shard": 2}, [0, 1, 2, 3], (0, 1, 2, 3)),
        ({"dp": 2, "tp": 2}, [0, 0, 1, 1], (0, 2)),
        ({"tp": 2, "dp": 2}, [0, 1, 0, 1], (0, 1)),
        ({"dp": 1, "tp": 4}, [0, 0, 0, 0], (0,)),
    ],
)
def test_ranks_that_compute_together_have_the_same_data(
    sizes: dict[str, int] | None, data_ranks: list[int], first_ranks: tuple[int, ...]
):
    places = [place_in(sizes, rank, 4) for rank in range(4)]
    assert [place.data_rank for place in places] == data_ranks
    assert {place.first_ranks for place in places} == {first_ranks}
    assert {place.data_world_size for place in places} == {len(first_ranks)}
