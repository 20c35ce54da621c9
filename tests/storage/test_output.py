from __future__ import annotations

import errno
import io
import subprocess
import sys
import warnings

import pytest

from trainkit.storage.output import printing, say, warn


class Gone(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


class Closed(io.StringIO):
    def __init__(self):
        super().__init__()
        self.close()


def test_what_is_said_is_what_print_prints(capsys):
    say("a", 1, sep="-", end="!\n")
    say("b", err=True)
    assert capsys.readouterr() == ("a-1!\n", "b\n")


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (Gone(), "Broken pipe"),
        (Closed(), "closed file"),
        (io.TextIOWrapper(io.BytesIO(), encoding="ascii"), "ascii"),
    ],
)
def test_output_that_fails_is_told_once(monkeypatch, stream, reason):
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.warns(UserWarning, match=f"stdout cannot be written to .*{reason}") as told:
        for _ in range(3):
            say("ü")
    assert len(told) == 1


def test_nobody_is_told_where_stderr_is_gone_as_well(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Gone())
    monkeypatch.setattr(sys, "stderr", Closed())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda *args: sys.stderr.write("a warning"))
        say("a")
        warn("a")
        say("a", err=True)


def test_mistakes_are_not_taken_for_a_stream_that_is_gone():
    with pytest.raises(ValueError, match="boom"), printing():
        raise ValueError("boom")
    with pytest.raises(BrokenPipeError):
        say("a", file=Gone())


@pytest.mark.parametrize("redirection", [">/dev/full", ">/dev/full 2>/dev/full", ">&-", ">&- 2>&-", "| true"])
def test_a_program_ends_well_where_its_output_cannot_be_written(redirection):
    code = "from trainkit.storage.output import say; [say(i) for i in range(20000)]"
    program = f"{sys.executable} -W always -c '{code}' {redirection}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
