"""A hundred and fifty spoiled sharded checkpoints; ``python -m tests.checkpoint_fuzz --folders --mutations 5000``."""

from __future__ import annotations

import pytest

from tests.checkpoint_fuzz.folders import FolderFuzz

pytestmark = pytest.mark.slow

MUTATIONS = 150
AT_A_TIME = 25


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> FolderFuzz:
    return FolderFuzz(tmp_path_factory.mktemp("folders"))


@pytest.mark.parametrize("first", range(0, MUTATIONS, AT_A_TIME))
def test_a_spoiled_folder_ends_in_a_named_error_or_the_right_values(fuzz: FolderFuzz, first: int) -> None:
    assert [wrong for seed in range(first, first + AT_A_TIME) if (wrong := fuzz.try_one(seed))] == []
