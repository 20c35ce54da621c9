from __future__ import annotations

import pytest

from trainkit.errors import DeviceError
from trainkit.strategies.launch.variables import number_of


def test_a_number_is_read_and_has_a_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TASKS", "12")
    assert number_of("TASKS") == number_of("TASKS", 3) == 12
    assert number_of("OTHERS", 3) == 3


@pytest.mark.parametrize("text", ["", "two", "1.5", None])
def test_what_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch, text: str | None):
    if text is not None:
        monkeypatch.setenv("TASKS", text)
    with pytest.raises(DeviceError, match=f"TASKS is {text!r}, and must be a whole number"):
        number_of("TASKS")
