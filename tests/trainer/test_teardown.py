"""What is torn down, is so however a call ends, and hides no error."""

from __future__ import annotations

import pytest

from trainkit.trainer.teardown import afterwards, noted_on


def fails():
    raise OSError("disk full")


def test_what_fails_while_tearing_down_is_noted_on_the_error_that_came_first():
    with pytest.raises(RuntimeError, match="first") as raised, afterwards(fails):
        raise RuntimeError("first")
    assert raised.value.__notes__ == ["then, while tearing down: OSError: disk full"]


def test_without_another_error_it_is_the_error():
    with pytest.raises(OSError, match="disk full"), afterwards(fails):
        pass


def test_it_is_torn_down_once_and_last():
    order = []
    with afterwards(lambda: order.append("torn down")):
        order.append("inside")
    assert order == ["inside", "torn down"]


def test_what_python_shows_no_notes_of_is_printed(capsys):
    with noted_on(KeyboardInterrupt()):
        fails()
    assert "then, while tearing down: OSError: disk full" in capsys.readouterr().err
