"""Lines that a run tells its user."""

from __future__ import annotations

import io
import sys

from trainkit.messages import tell


def test_a_line_goes_to_stderr(capsys):
    tell("it goes on")
    assert capsys.readouterr() == ("", "trainkit: it goes on\n")


def test_a_closed_stream_ends_nothing(monkeypatch):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    tell("nobody hears it")
