from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
from typing import Any

import click
import pytest

from tests.installed import Site
from trainkit import callbacks, loggers
from trainkit.callbacks import Callback
from trainkit.errors import DeviceError, PluginError, UnknownNameError
from trainkit.plugins import catalog
from trainkit.plugins.catalog import Entry, Kind
from trainkit.plugins.installed import KINDS
from trainkit.precision.base import Precision
from trainkit.strategies.base import Strategy

BUILTINS = [
    entry for kind in KINDS for entry in catalog.entries(kind) if (entry.distribution, entry.kind) == ("trainkit", kind)
]


@pytest.mark.parametrize("entry", BUILTINS, ids=lambda entry: entry.name)
def test_every_built_in_name_leads_somewhere(entry: Entry) -> None:
    loaded = entry.load()
    module, _, name = entry.target.partition(":")
    made = loaded.func if isinstance(loaded, functools.partial) else loaded
    if entry.kind == "cli":
        assert isinstance(made, click.Command) and made.name == entry.name
        return
    assert made.__name__ == name and made.__module__.startswith(module)
    again = catalog.load(entry.kind, f"trainkit:{entry.name}")
    assert again is loaded or (again.func, again.keywords) == (loaded.func, loaded.keywords)


def test_a_name_that_stands_for_another_has_its_arguments() -> None:
    shorts = {entry.name: entry for entry in BUILTINS if entry.stands_for}
    assert {"ddp_find_unused_parameters_true", "fsdp_cpu_offload", "16", "bf16"} <= shorts.keys()
    assert shorts["fsdp_cpu_offload"].load().keywords == {"cpu_offload": True}
    assert shorts["16"].load() is catalog.load("precision", "16-mixed")
    with pytest.raises(UnknownNameError, match=r"allowed .*fsdp_cpu_offload.*\n.*did you mean 'fsdp_cpu_offload'"):
        catalog.find("strategies", "fsdp_cpu_offlod")


def named(kind: Kind) -> set[Any]:
    return {entry.load() for entry in BUILTINS if entry.kind == kind}


def concrete(package: str, base: type) -> set[Any]:
    """Return the classes that every file of a package defines, and that are no bases of others."""
    folder = importlib.import_module(package)
    names = [each.name for each in pkgutil.walk_packages(folder.__path__, f"{package}.")]
    found = [value for name in names for value in vars(importlib.import_module(name)).values()]
    kinds = {each for each in found if isinstance(each, type) and each.__module__.startswith(package)}
    return {each for each in kinds if issubclass(each, base) and not inspect.isabstract(each) and each is not base}


def test_every_public_callback_and_logger_has_a_name() -> None:
    public = {getattr(package, name) for package in (callbacks, loggers) for name in package.__all__}
    bases = {Callback, loggers.Logger, loggers.QueuedLogger, callbacks.BaseFinetuning}
    assert sorted(each.__name__ for each in public - bases - named("callbacks") - named("loggers")) == []


def test_every_strategy_and_precision_has_a_name() -> None:
    assert concrete("trainkit.strategies", Strategy) - named("strategies") == set()
    assert concrete("trainkit.precision", Precision) - named("precision") == set()


def test_a_name_tells_the_class_without_an_import(site: Site) -> None:
    site.install("ema-one", "1.0", "[trainkit.callbacks]\nema = nowhere:inner.EMA\n")
    names = ["early_stopping", "ema", "ema-one:ema", "Mine"]
    assert [catalog.class_name("callbacks", name) for name in names] == ["EarlyStopping", "EMA", "EMA", "Mine"]


def test_an_installed_package_is_found_by_name_and_not_imported(site: Site) -> None:
    site.install(
        "trainkit-ema",
        "0.3",
        "[trainkit.callbacks]\nema = ema_plugin:Box.EMA\n",
        ema_plugin="class Box:\n  class EMA: ...",
    )
    entry = catalog.find("callbacks", "ema")
    assert entry == Entry("callbacks", "ema", "trainkit-ema", "0.3", "ema_plugin:Box.EMA")
    assert entry in catalog.entries("callbacks")
    assert "ema_plugin" not in sys.modules
    assert catalog.load("callbacks", "ema").__qualname__ == "Box.EMA"


def test_an_entry_point_may_name_a_python_module(site: Site) -> None:
    site.install("hooks-of-mine", "1", "[trainkit.callbacks]\nmine = hooks_of_mine\n", hooks_of_mine="")
    assert catalog.load("callbacks", "mine").__name__ == "hooks_of_mine"


@pytest.mark.parametrize("package", ["trainkit-ema", "trainkit_ema", "Trainkit.EMA"])
def test_a_package_may_be_written_in_each_way_pip_takes(site: Site, package: str) -> None:
    site.install("trainkit-ema", "0.3", "[trainkit.callbacks]\nema = ema_plugin:EMA\n")
    assert catalog.find("callbacks", f"{package}:ema").distribution == "trainkit-ema"


def test_a_name_of_two_packages_is_an_error_that_lists_what_to_write(site: Site) -> None:
    for package in ("ema-one", "ema-two"):
        site.install(package, "1.0", "[trainkit.callbacks]\nema = nowhere:EMA\n")
    with pytest.raises(PluginError) as caught:
        catalog.find("callbacks", "ema", where="config.yaml: callbacks.ema")
    assert str(caught.value).splitlines() == [
        "callback 'ema' is offered by 2 packages.",
        "    in           config.yaml: callbacks.ema",
        "    write one of ema-one:ema, ema-two:ema",
    ]
    assert catalog.find("callbacks", "ema-two:ema").distribution == "ema-two"


def test_a_name_is_there_if_anybody_offers_it(site: Site) -> None:
    for package in ("ema-one", "ema-two"):
        site.install(package, "1.0", "[trainkit.callbacks]\nema = nowhere:EMA\n")
    names = ("early_stopping", "ema", "ema-one:ema", "early_stoping")
    assert [catalog.has("callbacks", name) for name in names] == [True, True, True, False]


def test_a_built_in_name_cannot_be_taken_by_a_package(site: Site) -> None:
    site.install("impostor", "1.0", "[trainkit.callbacks]\nearly_stopping = nowhere:Other\n")
    told = "'early_stopping' is trainkit's own callback. For one .* in another package write impostor:early_stopping"
    with pytest.warns(UserWarning, match=told):
        assert catalog.find("callbacks", "early_stopping").distribution == "trainkit"
    assert catalog.find("callbacks", "impostor:early_stopping").target == "nowhere:Other"


def test_a_name_means_something_for_its_kind_only(site: Site) -> None:
    site.install("many", "1.0", "[trainkit.strategies]\nspecial = nowhere:S\n[trainkit.cli]\nspecial = nowhere:C\n")
    assert catalog.find("strategies", "special").target == "nowhere:S"
    assert catalog.find("cli", "special").target == "nowhere:C"
    with pytest.raises(UnknownNameError, match="unknown callback 'special'"):
        catalog.find("callbacks", "special")


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("callbacks", "earlystopping", "early_stopping"),
        ("callbacks", "emma", "ema"),
        ("callbacks", "trainkit-emma:ema", "trainkit-ema:ema"),
        ("strategies", "DDP2", "ddp"),
        ("precision", "bf16-mix", "bf16-mixed"),
    ],
)
def test_an_unknown_name_is_an_error_that_names_the_nearest(site: Site, kind: Kind, name: str, meant: str) -> None:
    site.install("trainkit-ema", "0.3", "[trainkit.callbacks]\nema = ema_plugin:EMA\n")
    with pytest.raises(UnknownNameError, match=f"did you mean '{meant}'") as caught:
        catalog.find(kind, name, where="Trainer(...)")
    assert caught.value.where == "Trainer(...)" and meant in caught.value.allowed


@pytest.mark.parametrize(
    ("source", "target", "cause"),
    [
        ("import a_package_that_is_missing", "broken:EMA", ModuleNotFoundError),
        ("class Other: ...", "broken:EMA", AttributeError),
        ("this is no Python", "broken:EMA", SyntaxError),
        ("raise RuntimeError('needs a GPU')", "broken:EMA", RuntimeError),
        ("", "nowhere:EMA", ModuleNotFoundError),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_one_clear_error(
    site: Site, source: str, target: str, cause: type[Exception]
) -> None:
    site.install("trainkit-ema", "0.3", f"[trainkit.callbacks]\nema = {target}\n", broken=source)
    with pytest.raises(PluginError) as caught:
        catalog.load("callbacks", "ema")
    sys.modules.pop("broken", None)
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(f"callback 'ema' cannot be imported: {cause.__name__}")
    assert rest[:2] == ["    offered by   trainkit-ema 0.3", f"    target       {target}"]
    assert isinstance(caught.value.__cause__, cause)


def test_an_error_of_trainkit_itself_says_enough_and_passes(site: Site) -> None:
    source = "from trainkit.errors import DeviceError\nraise DeviceError('no such device here')"
    site.install("trainkit-odd", "1", "[trainkit.strategies]\nodd = odd_plugin:Odd\n", odd_plugin=source)
    with pytest.raises(DeviceError, match="no such device here"):
        catalog.load("strategies", "odd")


def test_metadata_is_read_anew_each_time(site: Site) -> None:
    def names() -> list[Any]:
        return [entry.name for entry in catalog.entries("callbacks")]

    assert "ema" not in names()
    site.install("trainkit-ema", "0.3", "[trainkit.callbacks]\nema = ema_plugin:EMA\n")
    assert "ema" in names()


@pytest.mark.parametrize("how", ["raise SystemExit(3)", "import sys; sys.exit(3)", "exit('enough')", "1 / 0"])
def test_a_module_that_ends_the_program_is_an_error_of_the_plugin(site: Site, how: str) -> None:
    site.install("ender", "1.0", "[trainkit.callbacks]\nends = ender:Ends\n", ender=f"{how}\n")
    with pytest.raises(PluginError, match=r"callback 'ends' cannot be imported: .*\n    offered by   ender 1.0"):
        catalog.load("callbacks", "ends")


@pytest.mark.parametrize("kind", ["callbacks", "loggers", "profilers", "strategies", "precision"])
def test_what_cannot_be_called_is_an_error_that_names_it(site: Site, kind: Kind) -> None:
    site.install("valued", "1.0", f"[trainkit.{kind}]\nvalue = valued:VALUE\n", valued="VALUE = 3\n")
    with pytest.raises(PluginError, match=r"'value' is 3, and a class .*\n    offered by   valued 1.0"):
        catalog.find(kind, "value").load_maker()


def test_a_part_that_ends_the_program_while_it_is_made_is_an_error(site: Site) -> None:
    entry = Entry("callbacks", "ends", "ender", "1.0", "ender:Ends")
    with (
        pytest.raises(PluginError, match=r"'ends' asks for the end of the program: SystemExit: 3"),
        entry.named_in_errors(),
    ):
        sys.exit(3)
    own = Entry("callbacks", "ends", "trainkit", "1.0", "ender:Ends")
    with pytest.raises(SystemExit), own.named_in_errors():
        sys.exit(3)
