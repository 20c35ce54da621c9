import pytest

from trainkit.storage.sharded.names import is_name_of_file


@pytest.mark.parametrize("name", ["manifest.json", "state.pt", ".metadata", "__0_0.distcp", "__15_3.distcp"])
def test_names_of_files(name: str) -> None:
    assert is_name_of_file(name)


@pytest.mark.parametrize("name", ["", "..", "../state.pt", "a/__0_0.distcp", "__0_0.distcp\n", "notes", "__x_0.distcp"])
def test_other_names(name: str) -> None:
    assert not is_name_of_file(name)
