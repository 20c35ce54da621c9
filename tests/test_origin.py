from __future__ import annotations

import importlib
import sys
import types

import pytest

from tests.installed import Site
from trainkit.origin import Package, module_of, packages_of


def test_a_class_is_of_the_package_whose_files_have_its_module(site: Site) -> None:
    site.install("ema-one", "1.0", "", another_name="class EMA: ...\n")
    module = importlib.import_module("another_name")
    assert packages_of(module.EMA()) == packages_of(module.EMA) == packages_of(module) == (Package("ema-one", "1.0"),)
    assert str(packages_of(module)[0]) == "ema-one 1.0"


@pytest.mark.parametrize("is_editable", [True, False])
def test_what_lies_elsewhere_is_found_by_its_name_if_it_was_installed_so(
    is_editable: bool, site: Site, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after `pip install -e`: the metadata are in site-packages, and name no module.
    site.install("ema-two", "2.0", "")
    if is_editable:
        url = '{"url": "file:///somewhere", "dir_info": {"editable": true}}'
        (site.folder / "ema_two-2.0.dist-info" / "direct_url.json").write_text(url)
    module = types.ModuleType("ema_two")
    module.__file__ = f"{tmp_path}/ema_two/__init__.py"
    monkeypatch.setitem(sys.modules, "ema_two", module)
    assert packages_of(module) == ((Package("ema-two", "2.0"),) if is_editable else ())


def test_what_was_not_installed_is_of_no_package(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_script_of_mine")
    module.__file__ = f"{tmp_path}/a_script_of_mine.py"
    monkeypatch.setitem(sys.modules, "a_script_of_mine", module)
    assert packages_of(module) == packages_of(object()) == ()
    assert (module_of(module), module_of(object()), module_of(Package)) == (
        "a_script_of_mine",
        "builtins",
        "trainkit.origin",
    )


@pytest.mark.parametrize("metadata", [b"\xff\xfe\x00", b"", None])
def test_a_broken_package_hides_no_other(site: Site, metadata: bytes | None) -> None:
    site.install("torn", "1.0", "", torn_module="")
    site.install("ema-one", "1.0", "", ema_beside_torn="class EMA: ...\n")
    file = site.folder / "torn-1.0.dist-info" / "METADATA"
    file.unlink() if metadata is None else file.write_bytes(metadata)
    assert packages_of(importlib.import_module("ema_beside_torn").EMA) == (Package("ema-one", "1.0"),)
    assert packages_of(importlib.import_module("torn_module")) == ()
