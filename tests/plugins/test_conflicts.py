"""Seeded conflicts between plugins and with trainkit: each fails when the Trainer is made, and names both parties."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import trainkit
from tests.installed import Site
from trainkit.cli.main import main
from trainkit.errors import ConfigError, HookError, PluginError, TrainkitError
from trainkit.plugins import catalog
from trainkit.testing import quiet_trainer

ONE = "class {name}:\n    {attributes}\n    def {hook}(self{arguments}): ...\n"


class Packages:
    """Two packages, each with one callback; and what is wrong between them, or with one of them."""

    def __init__(self, site: Site, draw: random.Random) -> None:
        self._site, self._draw = site, draw
        self.one, self.other = draw.sample(["ema", "clip", "noise", "swa"], 2)
        self.hook = draw.choice(["on_fit_start", "on_train_batch_end", "on_validation_end", "setup"])

    def install(self, name: str, point: str = "", *, attributes: str = "pass", arguments: str = "", **more: str) -> str:
        module, requires = f"seeded_{name}", more.get("requires")
        names = {"name": more.get("cls", name.title()), "hook": more.get("hook", self.hook)}
        source = more.get("source") or ONE.format(attributes=attributes, arguments=arguments, **names)
        points = f"[trainkit.callbacks]\n{point or name} = {module}:{names['name']}\n"
        needs = [requires] if requires else []
        self._site.install(f"package-{name}", "2.1", points, requires=needs, **{module: source})
        return point or name


def of_names(packages: Packages) -> tuple[list[str], type[TrainkitError]]:
    """Two packages offer one name."""
    return [packages.install(each, "same") for each in (packages.one, packages.other)][:1], PluginError


def of_plugin_names(packages: Packages) -> tuple[list[str], type[TrainkitError]]:
    """Two plugins give themselves one name."""
    made = [packages.install(each, attributes="name = 'same'") for each in (packages.one, packages.other)]
    return made, PluginError


def of_order(packages: Packages) -> tuple[list[str], type[TrainkitError]]:
    """Two plugins each want to be called ahead of the other."""
    pairs = ((packages.one, packages.other), (packages.other, packages.one))
    return [packages.install(a, attributes=f"runs_before = ({b.title()!r},)") for a, b in pairs], PluginError


def of_versions(packages: Packages) -> tuple[list[str], type[TrainkitError]]:
    """A plugin was made for another trainkit. It is not imported."""
    return [packages.install(packages.one, requires="trainkit<0.0.9", source="1 / 0\n")], PluginError


def of_hook_arguments(packages: Packages) -> tuple[list[str], type[TrainkitError]]:
    """A plugin asks for an argument that its hook does not give, as an earlier version may have."""
    return [packages.install(packages.one, arguments=", lightning_module_of_then")], HookError


def of_hooks(packages: Packages) -> tuple[list[str], type[TrainkitError]]:
    """A plugin has a method that is almost a hook."""
    return [packages.install(packages.one, hook="on_train_batch_ended")], HookError


def of_arguments(packages: Packages) -> tuple[list[str], type[TrainkitError]]:
    """A plugin needs an argument, and is named without one."""
    source = f"class {packages.one.title()}:\n    def __init__(self, decay): ...\n"
    return [packages.install(packages.one, source=source)], ConfigError


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "conflict",
    [of_names, of_plugin_names, of_order, of_versions, of_hook_arguments, of_hooks, of_arguments],
    ids=lambda conflict: conflict.__name__,
)
def test_it_fails_at_the_start_and_names_both_parties(
    conflict: Callable[[Packages], tuple[list[str], type[TrainkitError]]], seed: int, site: Site
) -> None:
    packages = Packages(site, random.Random(seed))
    names, expected = conflict(packages)
    with pytest.raises(expected) as caught:
        quiet_trainer(callbacks=names)
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert f"package-{packages.one}" in told, told
    is_between_two = conflict in (of_names, of_plugin_names, of_order)
    assert (f"package-{packages.other}" in told) == is_between_two
    if conflict in (of_versions, of_hook_arguments, of_hooks):
        assert "2.1" in told and f"trainkit {trainkit.__version__}" in told


def test_a_part_for_another_trainkit_says_who_needs_what_and_what_to_do(site: Site) -> None:
    site.install("old-ema", "0.3", "[trainkit.callbacks]\nema = old_ema:EMA\n", requires=["trainkit<0.0.9"])
    with pytest.raises(PluginError) as caught:
        catalog.find("callbacks", "ema", where="config.yaml: callbacks.ema")
    assert str(caught.value).splitlines() == [
        "callback 'ema' was made for another version of trainkit.",
        "    in           config.yaml: callbacks.ema",
        "    offered by   old-ema 0.3, which needs trainkit<0.0.9",
        f"    installed    trainkit {trainkit.__version__}",
        "    to mend it   pip install --upgrade old-ema, or pip install 'trainkit<0.0.9'",
    ]
    page = (Path(trainkit.__file__).parents[1] / "docs" / "how-to" / "plugins.md").read_text()
    assert f"PluginError: {caught.value}\n" in page


def test_the_list_says_which_parts_are_unfit_and_imports_nothing(site: Site) -> None:
    points = "[trainkit.callbacks]\nema = old_ema:EMA\n[trainkit.cli]\nold-ema = old_ema:command\n"
    site.install("old-ema", "0.3", points, requires=["trainkit<0.0.9"], old_ema="1 / 0\n")
    listed = CliRunner().invoke(main, ["plugins", "--from", "old-ema", "--check"])
    assert listed.exit_code == 0, listed.output
    assert listed.output.count("old-ema 0.3  unfit\n") == 2
    assert f"needs trainkit<0.0.9, and this is trainkit {trainkit.__version__}" in listed.output
    refused = CliRunner().invoke(main, ["old-ema"])
    assert refused.exit_code == 2 and "command 'old-ema' was made for another version of trainkit." in refused.output


def test_a_wrong_argument_in_a_configuration_names_the_package(site: Site) -> None:
    source = (
        "class EMA:\n    def __init__(self, decay: float = 0.5):\n        assert decay < 1\n    def setup(self): ...\n"
    )
    site.install("new-ema", "0.3", "[trainkit.callbacks]\nema = new_ema:EMA\n", new_ema=source)
    for arguments, kind in (({"dekay": 0.1}, ConfigError), ({"decay": 2.0}, AssertionError)):
        config = {"module": {"_target_": "trainkit.testing.TinyModule"}, "callbacks": {"ema": arguments}}
        with pytest.raises(kind) as caught:
            trainkit.from_config(config)
        assert "    offered by   new-ema 0.3" in caught.value.__notes__
