from __future__ import annotations

import itertools

import pytest

from tests.installed import Site
from trainkit.callbacks import EarlyStopping
from trainkit.errors import PluginError
from trainkit.plugins import catalog
from trainkit.plugins.consent import VARIABLE, normalized, who_forbids, with_consent

NAMES = ("ema-one", "ema-one:ema", "EMA_One", "other", "ema-one:other")


@pytest.fixture
def ema(site: Site) -> Site:
    site.install("ema-one", "1.0", "[trainkit.callbacks]\nema = ema_one:EMA\n", ema_one="class EMA: pass\n")
    return site


@pytest.mark.parametrize("enabled", [None, *(itertools.combinations(NAMES, 0)), *itertools.combinations(NAMES, 1)])
@pytest.mark.parametrize("disabled", [*itertools.combinations(NAMES, 0), *itertools.combinations(NAMES, 1)])
@pytest.mark.parametrize("by_environment", [True, False])
def test_a_part_may_be_used_where_it_is_enabled_and_not_disabled(
    enabled: tuple[str, ...] | None,
    disabled: tuple[str, ...],
    by_environment: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {"ema-one", "ema-one:ema", "EMA_One"}
    expected = (enabled is None or bool(names & set(enabled))) and not names & set(disabled)
    if by_environment:
        if enabled is None and not disabled:
            monkeypatch.delenv(VARIABLE, raising=False)
        else:
            monkeypatch.setenv(VARIABLE, ",".join([*(enabled or ()), *(f"-{name}" for name in disabled)]))
        # Set and empty it forbids all; with names that are only forbidden it allows the others.
        if enabled == () and disabled:
            expected = not names & set(disabled)
        found = who_forbids("ema-one", "ema")
    else:
        with with_consent("a file", enabled, disabled):
            found = who_forbids("ema-one", "ema")
    assert (found is None) == expected
    assert who_forbids("ema-one", "ema") is None or by_environment


def test_a_forbidden_part_is_not_imported_and_the_error_says_who_forbids_it(
    ema: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "others")
    (ema.folder / "ema_one.py").write_text("raise AssertionError('it was imported')")
    with pytest.raises(PluginError) as caught:
        catalog.load("callbacks", "ema", where="config.yaml: callbacks.ema")
    assert str(caught.value) == (
        "callback 'ema' of ema-one 1.0 may not be used here.\n"
        "    in           config.yaml: callbacks.ema\n"
        "    said by      TRAINKIT_PLUGINS=others\n"
        "    to use it    add 'ema-one' there, or take it from what is forbidden"
    )


def test_trainkits_own_parts_are_always_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with with_consent("a file", [], ["trainkit", "early_stopping"]):
        assert catalog.load("callbacks", "early_stopping") is EarlyStopping


def test_of_two_packages_with_one_name_the_allowed_one_is_meant(ema: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ema.install("ema-two", "2.0", "[trainkit.callbacks]\nema = ema_two:EMA\n", ema_two="class EMA: pass\n")
    with pytest.raises(PluginError, match="offered by 2 packages"):
        catalog.find("callbacks", "ema")
    monkeypatch.setenv(VARIABLE, "-ema.one")
    assert catalog.find("callbacks", "ema").distribution == "ema-two"


@pytest.mark.parametrize(("name", "plain"), [("My_Package", "my-package"), (" a.b:Part_One ", "a-b:Part_One")])
def test_names_of_packages_are_compared_as_indexes_do(name: str, plain: str) -> None:
    assert normalized(name) == plain
