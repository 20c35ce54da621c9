from __future__ import annotations

import builtins
import inspect
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit import errors
from trainkit.errors import (
    CheckpointNotFoundError,
    TrainkitError,
    UnknownArgumentError,
    UnknownNameError,
    UnsupportedAttributeError,
    UnsupportedImportError,
    nearest_name,
    note_on,
)

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and value.__module__ == errors.__name__
}


def drawn() -> dict[str, tuple[str, str | None]]:
    """Return what the tree of the file's docstring says: of each class, the one it hangs from, and its builtin."""
    tree: dict[str, tuple[str, str | None]] = {}
    above = {-1: "TrainkitError"}
    for branch, name, builtin in re.findall(r"^ {4}([│ ]*)[├└]── (\w+)(?: \((\w+)\))?", errors.__doc__ or "", re.M):
        depth = len(branch) // 4
        above[depth] = name
        tree[name] = above[depth - 1], builtin or None
    return tree


def test_the_tree_that_is_drawn_is_the_one_there_is() -> None:
    real = {}
    for name, kind in CLASSES.items():
        bases = [base.__name__ for base in kind.__bases__]
        resembles = next((base for base in bases if base in vars(builtins) and name != "TrainkitError"), None)
        real[name] = next((base for base in bases if base in CLASSES), ""), resembles
    real.pop("TrainkitError")
    assert drawn() == real


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_is_caught_as_trainkits(name: str) -> None:
    assert issubclass(CLASSES[name], TrainkitError)
    assert CLASSES[name].__doc__


def test_an_unknown_name_is_told_with_all_that_are_known_and_the_nearest() -> None:
    error = UnknownNameError("strategy", "dddp", {"single": 1, "ddp": 2, "dp": 3}, "Trainer(strategy=...)")
    assert (error.kind, error.name, error.allowed) == ("strategy", "dddp", ["ddp", "dp", "single"])
    assert str(error).splitlines() == [
        "unknown strategy 'dddp'.",
        "    in           Trainer(strategy=...)",
        "    allowed      ddp, dp, single",
        "    did you mean 'ddp'?",
    ]


def test_a_name_that_is_like_none_is_told_without_a_guess() -> None:
    assert str(UnknownNameError("key", "zebra", ["lr"])) == "unknown key 'zebra'.\n    allowed      lr"
    assert str(UnknownNameError("key", "lr", [])) == "unknown key 'lr'.\n    allowed      (none)"


@pytest.mark.parametrize("builtin", [TypeError, ValueError])
def test_an_unknown_argument_is_what_python_raises_for_one(builtin: type[Exception]) -> None:
    with pytest.raises(builtin, match="did you mean 'max_epochs'"):
        raise UnknownArgumentError("argument", "max_epoch", ["max_epochs", "max_steps"])


def test_a_missing_checkpoint_is_a_missing_file_with_a_text_of_its_own() -> None:
    with pytest.raises(FileNotFoundError, match="^no checkpoint at a.ckpt$"):
        raise CheckpointNotFoundError("no checkpoint at a.ckpt")


@pytest.mark.parametrize("kind", [UnsupportedImportError, UnsupportedAttributeError])
def test_what_is_not_there_is_told_with_what_to_use(kind: type[errors.UnsupportedError]) -> None:
    assert str(kind("callbacks.Timer", "max_time")) == "trainkit has no callbacks.Timer.\n    instead      max_time"


def test_what_looks_for_an_attribute_finds_none() -> None:
    class Owner:
        def __getattr__(self, name: str) -> object:
            raise UnsupportedAttributeError(name, "another")

    assert not hasattr(Owner(), "missing")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("max_epoch", "max_epochs"),
        ("MAX_EPOCHS", "max_epochs"),
        ("Model", "model"),
        ("stepz", "max_steps"),
        ("q", None),
    ],
)
def test_the_nearest_name_is_found_whatever_its_case(name: str, nearest: str | None) -> None:
    assert nearest_name(name, ["max_epochs", "max_steps", "model"], cutoff=0.5) == nearest


def test_how_near_a_name_has_to_be_can_be_said() -> None:
    assert nearest_name("lrx", ["lr"], cutoff=0.9) is None
    assert nearest_name("lrx", ["lr"]) == "lr"


@given(st.text("abcdefg_", min_size=2, max_size=8), st.sampled_from("ztq"), st.integers(0, 8), st.integers(0, 3))
def test_one_slip_is_found_whatever_it_is(meant: str, other: str, at: int, kind: int) -> None:
    at %= len(meant)
    given = [
        meant[:at] + other + meant[at:],
        meant[:at] + meant[at + 1 :],
        meant[:at] + other + meant[at + 1 :],
        meant[:at] + meant[at : at + 2][::-1] + meant[at + 2 :],
    ][kind]
    assert nearest_name(given, [meant, "something_else"]) == meant


def test_nothing_in_a_note_acts_on_a_terminal() -> None:
    error = KeyError("n")
    note_on(error, "in \x1b[2J\u202e\n    to do        \rnothing")
    assert error.__notes__ == ["in \\x1b[2J\\u202e\n    to do        \\rnothing"]


def test_all_notes_go_through_there() -> None:
    root = Path(errors.__file__).parent
    having = [path.relative_to(root).as_posix() for path in root.rglob("*.py") if ".add_note(" in path.read_text()]
    assert having == ["errors.py"]
