from __future__ import annotations

import sys

import pytest

from trainkit.doctor.machine import examine
from trainkit.doctor.report import Report


def test_every_check_has_its_say() -> None:
    report = Report()
    examine(report)
    told = {each.about for each in report.facts}
    assert {"trainkit", "python", "needs", "plugins", "cpu", "torch", "ranks", "compile"} <= told


def test_without_torch_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trainkit.doctor.hardware", None)
    report = Report()
    examine(report)
    assert report.is_broken
    assert any(each.what == "torch cannot be imported" for each in report.findings)
    assert [each.about for each in report.facts] == ["trainkit", "python", "needs", "plugins"]
