from __future__ import annotations

import errno
import io
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import trainkit
from trainkit.output import begin_telling, print_as_is, printing, say, warn


class Gone(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


class Closed(io.StringIO):
    def __init__(self):
        super().__init__()
        self.close()


def test_what_is_said_is_what_print_prints(capsys):
    print_as_is("a", 1, sep="-", end="!\n")
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
        print_as_is("a", file=Gone())


@pytest.mark.parametrize("redirection", [">/dev/full", ">/dev/full 2>/dev/full", ">&-", ">&- 2>&-", "| true"])
def test_a_program_ends_well_where_its_output_cannot_be_written(redirection):
    code = "from trainkit.output import say; [say(i) for i in range(20000)]"
    program = f"{sys.executable} -W always -c '{code}' {redirection}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_a_warning_is_told_once_in_a_run_and_in_each_run_anew(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda message, *_: print(message)
        for _ in range(2):
            begin_telling()
            for _ in range(3):
                warn("this will surprise")
    assert capsys.readouterr().out == "this will surprise\n" * 2


def test_filters_hold_as_for_all_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="surprise"):
            warn("this will surprise")
        warnings.filterwarnings("ignore", module=__name__)
        warn("this will surprise")


def test_the_line_that_is_named_is_one_of_the_users():
    from trainkit.testing import TinyData, TinyModule, quiet_trainer

    class Nothing(TinyModule):
        def training_step(self, batch, batch_idx):
            return None

    with pytest.warns(UserWarning, match="has made no update") as told:
        quiet_trainer(max_epochs=1).fit(Nothing(), TinyData(2))
    assert {warning.filename for warning in told} == {__file__}


def test_the_line_that_has_called_a_part_of_trainkit_can_be_named():
    # A module of its own, whose code is that of trainkit.
    ours = {"__name__": "trainkit.somewhere", "warn": warn}
    exec("def inner(**options): warn('this will surprise', **options)\ndef outer(call): call()", ours)

    def hook():
        ours["inner"](innermost=True)

    with pytest.warns(UserWarning, match="surprise") as told:
        ours["outer"](hook)
        begin_telling()
        ours["outer"](ours["inner"])
    first = hook.__code__.co_firstlineno
    assert [(each.filename, each.lineno) for each in told] == [(__file__, first + 1), (__file__, first + 6)]


@pytest.fixture
def second_of_two():
    begin_telling(1, 2)
    yield
    begin_telling()


def test_of_several_ranks_the_first_one_warns(second_of_two):
    warn("of all")  # an error in the tests, if it were heard
    begin_telling(0, 2)
    with pytest.warns(UserWarning, match="^of all"):
        warn("of all")


def test_a_warning_of_one_rank_alone_names_it(second_of_two):
    with pytest.warns(UserWarning, match="^rank 1: its loader"):
        warn("its loader", of_rank=True)
    begin_telling()
    with pytest.warns(UserWarning, match="^its loader"):
        warn("its loader", of_rank=True)


def test_all_warnings_come_from_one_place():
    root = Path(trainkit.__file__).parent
    calling = [str(path.relative_to(root)) for path in root.rglob("*.py") if "warnings.warn" in path.read_text()]
    # That of Lightning's names is called by the user's code, for warnings of its own.
    assert sorted(calling) == ["compat/lightning/rank_zero.py", "output.py"]


def test_what_trainkit_says_cannot_act_on_a_terminal(capsys):
    say("a\x1b[2J\n  b\u202e \ud800")
    assert capsys.readouterr().out == "a\\x1b[2J\n  b\\u202e \\ud800\n"
    with pytest.warns(UserWarning, match=r"^a\\x1b\[2J$"):
        warn("a\x1b[2J")


def test_what_a_user_prints_may_be_coloured(capsys):
    trainkit.Trainer(logger=False).print("\x1b[31mred\x1b[0m")
    assert capsys.readouterr().out == "\x1b[31mred\x1b[0m\n"
