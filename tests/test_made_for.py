from __future__ import annotations

import pytest
from packaging.version import Version

import trainkit
from tests.installed import Site
from trainkit.made_for import unmet_need


@pytest.mark.parametrize(
    ("version", "requirement", "unmet"),
    [
        ("0.1.0", None, ""),
        ("0.1.0", "trainkit", ""),
        ("0.1.0", "torch<1", ""),
        ("0.1.0", "trainkit>=0.1.0", ""),
        ("0.1.0", "trainkit<0.1", "trainkit<0.1"),
        ("0.2.0", "trainkit~=0.1.0", "trainkit~=0.1.0"),
        ("0.2.0", "Trainkit[export]<0.2,>=0.1; python_version > '3'", "trainkit<0.2,>=0.1"),
        ("0.2.0", "trainkit<0.2; extra == 'old'", ""),
        ("0.2.0", "this is no requirement <", ""),
        # A version on the way to a release counts as that release, and as itself.
        ("0.2.0.dev3", "trainkit>=0.2", ""),
        ("0.2.0rc1", "trainkit>=0.2.0.dev1", ""),
        ("0.2.0.dev3", "trainkit<0.2", "trainkit<0.2"),
        ("0.2.0.dev3", "trainkit>=0.1,<0.2", "trainkit<0.2,>=0.1"),
        ("0.2.0.dev3", "trainkit>=0.3", "trainkit>=0.3"),
        ("0.2.0.dev3", "trainkit==0.2.*", ""),
        ("0.2.0+local", "trainkit==0.2.0", ""),
    ],
)
def test_a_package_needs_another_trainkit_as_pip_has_it(
    version: str, requirement: str | None, unmet: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainkit, "__version__", version)
    site.install("ema-one", "1.0", "", requires=[requirement] if requirement else [])
    assert unmet_need("ema-one") == unmet


def test_our_own_version_is_one() -> None:
    assert str(Version(trainkit.__version__)) == trainkit.__version__
