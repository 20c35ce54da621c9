from __future__ import annotations

import importlib
import importlib.metadata

import pytest

import trainkit
from tests.installed import Site
from trainkit.callbacks import EarlyStopping
from trainkit.checkpoint.origins import is_same_class, is_same_package, may_be_of, origin_of
from trainkit.compat.lightning.callbacks import EarlyStopping as TheirEarlyStopping

A1, A2, B = (
    {"package": package, "version": version, "class": "EMA"}
    for package, version in (("a", "1"), ("a", "2"), ("b", "1"))
)


def test_a_state_is_of_the_package_whatever_its_version() -> None:
    assert may_be_of(A1, A2) and not may_be_of(A1, B)  # type: ignore[arg-type]
    assert may_be_of(None, B) and may_be_of(A1, None)  # type: ignore[arg-type]
    assert may_be_of(SCRIPT, B) and may_be_of(A1, SCRIPT)  # type: ignore[arg-type]
    assert is_same_package(A1, A2 | {"class": "SWA"}) and not is_same_class(A1, A2 | {"class": "SWA"})  # type: ignore[arg-type]
    assert is_same_class(A1, A2) and is_same_class(SCRIPT, SCRIPT) and not is_same_class(SCRIPT, B)  # type: ignore[arg-type]
    assert not is_same_package(None, None) and not is_same_class(None, None)


SCRIPT = {"package": "", "version": "", "class": "EMA"}


def test_an_origin_names_package_version_and_class(site: Site) -> None:
    site.install("ema-one", "1.0", "", ema_of_one="class EMA: ...\n")
    plugin = importlib.import_module("ema_of_one").EMA()
    assert origin_of(plugin) == {"package": "ema-one", "version": "1.0", "class": "EMA"}
    own = {"package": "trainkit", "version": trainkit.__version__, "class": "EarlyStopping"}
    assert origin_of(EarlyStopping("a")) == own
    assert origin_of(TheirEarlyStopping("a")) == own


def test_what_is_in_no_package_has_its_class_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own: ...

    assert origin_of(Own()) == {"package": "", "version": "", "class": Own.__qualname__}

    def broken() -> None:
        raise OSError("unreadable")

    Own.__module__ = "ema_of_somebody"
    for name in ("packages_distributions", "distributions"):
        monkeypatch.setattr(importlib.metadata, name, broken)
    assert origin_of(Own()) is None
