from __future__ import annotations

import importlib
import importlib.metadata
import sys
import types
from pathlib import Path

import pytest

import trainkit
from tests.installed import Site
from trainkit.hooks.attribution import Attribution, described, origin


def test_a_plugin_of_an_installed_package_is_named_with_package_and_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "trainkit_ema-0.3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: trainkit-ema\nVersion: 0.3\n")
    (metadata / "top_level.txt").write_text("ema_of_somebody\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = type("EMA", (), {"__module__": "ema_of_somebody.callback"})()
    error = ValueError("broken")
    Attribution("ema", plugin, "on_train_batch_end").blame(error)
    assert error.__notes__ == ["in plugin 'ema' (trainkit-ema 0.3), hook on_train_batch_end"]


def test_a_plugin_of_no_package_is_named_with_its_python_module() -> None:
    class Plugin: ...

    assert origin(Plugin()) == origin(Plugin) == __name__
    assert origin(types.ModuleType("scripts.plugin")) == "scripts.plugin"


def test_an_error_is_blamed_once_and_keeps_its_own_notes() -> None:
    error = ValueError("broken")
    error.add_note("see the manual")
    Attribution("inner", object(), "on_train_end").blame(error)
    Attribution("outer", object(), "on_fit_end").blame(error)
    assert error.__notes__ == ["see the manual", "in plugin 'inner' (builtins), hook on_train_end"]


def test_broken_metadata_does_not_hide_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(importlib.metadata.DistributionFinder):
        def find_distributions(self, context: object = None) -> list[importlib.metadata.Distribution]:
            raise OSError("unreadable")

        def find_spec(self, *args: object) -> None:
            return None

    plugin = type("EMA", (), {"__module__": "a_module_of_which_nobody_has_asked"})()
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert origin(plugin) == "a_module_of_which_nobody_has_asked, of an unknown package: OSError('unreadable')"


def test_a_package_that_was_made_for_another_trainkit_is_said_to_be(site: Site) -> None:
    site.install("old-ema", "0.3", "", requires=["trainkit<0.0.5"], old_ema="class EMA: ...\n")
    ema = importlib.import_module("old_ema").EMA()
    told = f"old-ema 0.3, which needs trainkit<0.0.5; this is trainkit {trainkit.__version__}"
    assert (origin(ema), described(ema)) == (told, f"EMA ({told})")
