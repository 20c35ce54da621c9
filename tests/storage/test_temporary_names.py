from pathlib import Path

from trainkit.storage.temporary_names import PATTERN, kernel, temporary_for


def test_names_are_random_of_one_pattern_and_beside_what_they_become() -> None:
    names = {temporary_for(Path("some") / "a.ckpt") for _ in range(100)}
    assert len(names) == 100
    for name in names:
        match = PATTERN.fullmatch(name.name)
        assert match is not None
        assert match[1] == kernel()
        assert name.parent == Path("some")
