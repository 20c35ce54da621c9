from __future__ import annotations

import pytest
import yaml

from trainkit.storage.yaml_text import load_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"aliases such as \*a\d stand for more than 100000 values"),
        ("a: &a [1, [2, *a]]", r"\*a holds itself \(line 1\)"),
        ("a: 1\nb: &b\n  c: *b", r"\*b holds itself \(line 3\)"),
        ("a: " + "[" * 1000 + "]" * 1000, "it is nested too deeply"),
        ("a: *b", "found undefined alias"),
        ("a: [1", "line 1"),
        ("a: \x01", "characters are not allowed"),
        ("a: 2021-99-99", "month must be in"),
        ("a: 1\nb: " + "9" * 5000, r"a whole number of 5000 characters \(line 2\)"),
        ("a: 0x" + "f" * 4000, "a whole number of 4002 characters"),
        ("a: -1" + ":59" * 2000, "a whole number of 6002 characters"),
        ("a: !!int '" + "9" * 4000 + "'", "a whole number of 4000 characters"),
        ("a: !!bool maybe", "does not fit its tag"),
        ("a: !!timestamp soon", "does not fit its tag"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ],
)
def test_what_cannot_be_loaded_is_one_kind_of_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_yaml(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: &a [1, 2]\nb: *a\nc: *a",
        "a: &a 1\nb: [*a]\nc: [*a, *a]",
        "base: &b {x: 1}\na: {<<: *b, y: 2}",
        "1",
        "9" * 3000,
        "a: '" + "9" * 5000 + "'",
    ],
)
def test_ordinary_texts_load_as_ever(text: str) -> None:
    assert load_yaml(text) == yaml.safe_load(text)
