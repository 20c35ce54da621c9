from __future__ import annotations

import sys

from tests.installed import Site
from trainkit.doctor.offered import plugins
from trainkit.doctor.report import Fact, Finding


def test_plugins_are_told_and_not_imported(site: Site) -> None:
    site.install("loud", "1.0", "[trainkit.callbacks]\nloud = loud.inner:x\n", loud="1 / 0\n")
    found = list(plugins())
    assert "loud 1.0" in next(each.text for each in found if isinstance(each, Fact))
    assert not [each for each in found if isinstance(each, Finding) and "loud" in each.what]
    assert "loud" not in sys.modules


def test_a_plugin_without_its_module_or_in_a_group_that_nobody_reads_is_told(site: Site) -> None:
    site.install("lost", "1.0", "[trainkit.callbacks]\nlost = nowhere_at_all:x\n[trainkit.callback]\nslip = a:b\n")
    found = [each for each in plugins() if isinstance(each, Finding)]
    assert any(each.what == "callback 'lost:lost' is broken" and each.level == "broken" for each in found)
    assert any("did you mean 'trainkit.callbacks'?" in each.why for each in found)


def test_a_plugin_for_another_version_is_told_and_not_imported(site: Site) -> None:
    site.install(
        "old-ema", "0.3", "[trainkit.callbacks]\nema = old_ema:EMA\n", requires=["trainkit<0.0.9"], old_ema="1 / 0\n"
    )
    (found,) = [each for each in plugins() if isinstance(each, Finding) and "old-ema" in each.what]
    assert found.level == "broken" and "needs trainkit<0.0.9" in found.why
    assert "old_ema" not in sys.modules
