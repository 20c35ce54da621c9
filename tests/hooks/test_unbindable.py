"""An error about a function shows it as its author wrote it."""

from __future__ import annotations

import functools
import inspect
import types

from trainkit.hooks.unbindable import code_of, owner_name, unbindable


def written(trainer):
    return trainer


@functools.wraps(written)
def decorated(*args):
    return written(*args)


def test_the_place_is_that_of_what_the_user_wrote(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for function in (written, decorated, functools.partial(decorated, 1)):
        assert code_of(function) is written.__code__
        line = inspect.getsourcelines(written)[1]
        assert str(unbindable("it is wrong.", function)) == f"it is wrong.\n    defined at   {__file__}:{line}"


def test_what_is_known_is_said_and_nothing_else():
    assert str(unbindable("it is wrong.", 3)) == "it is wrong."
    error = unbindable("it is wrong.", None, provided=["trainer", "module"], remedy="this", meant="that")
    assert str(error).splitlines() == [
        "it is wrong.",
        "    provided     trainer, module",
        "    instead      this",
        "    did you mean 'that'?",
    ]


def test_a_plugin_has_the_name_of_its_class_or_its_own():
    class Plugin:
        pass

    assert owner_name(Plugin()) == owner_name(Plugin) == "Plugin"
    assert owner_name(types.ModuleType("of_hooks")) == "of_hooks"
