from __future__ import annotations

import pytest

from trainkit.record.command_line import command_line


@pytest.mark.parametrize(
    "words",
    [
        ["--api-key", "s3cret"],
        ["--token=s3cret"],
        ["-password", "s3cret"],
        ["module.api_key=s3cret"],
        ["data={user: me, password: s3cret}"],
        ['{"hf_token": "s3cret"}'],
        ["-c", "token = 's3cret'"],
        ["url=https://me:s3cret@example.com/x"],
    ],
)
def test_a_password_is_not_shown(words: list[str]) -> None:
    line = command_line(["python", "train.py", *words, "lr=0.1"])
    assert "s3cret" not in line
    assert line.startswith("python train.py ") and line.endswith(" lr=0.1")


def test_all_else_is_as_it_was_typed() -> None:
    words = ["python", "train.py", "--lr", "0.1", "note=two words", "--num-tokens", "5", "--token", "--fast"]
    assert command_line(words) == "python train.py --lr 0.1 'note=two words' --num-tokens 5 --token --fast"
