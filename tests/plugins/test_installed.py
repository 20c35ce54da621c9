from __future__ import annotations

import pytest

from tests.installed import Site
from trainkit.plugins.consent import VARIABLE
from trainkit.plugins.installed import KINDS, offers, tell_of_slips, unread


def of(distribution: str) -> dict[str, tuple[str, str, str]]:
    return {
        each.entry.name: (each.entry.kind, each.status, each.problem)
        for each in offers()
        if each.entry.distribution == distribution
    }


def test_each_name_is_listed_once_under_its_own_kind(site: Site) -> None:
    site.install("all-kinds", "1.0", "".join(f"[trainkit.{kind}]\nof_{kind} = nowhere:x\n" for kind in KINDS))
    assert of("all-kinds") == {f"of_{kind}": (kind, "", "") for kind in KINDS}
    listed = [(each.entry.kind, each.entry.name, each.entry.distribution) for each in offers()]
    assert len(set(listed)) == len(listed)
    assert ("loggers", "csv", "trainkit") in listed and ("callbacks", "csv", "trainkit") not in listed


def test_names_that_do_not_lead_to_a_part_say_what_to_write(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("one", "1.0", "[trainkit.callbacks]\nema = nowhere:x\ntimer = nowhere:x\n")
    site.install("two", "1.0", "[trainkit.callbacks]\nema = nowhere:x\n[trainkit.strategies]\nddp = nowhere:x\n")
    site.install("three", "1.0", "[trainkit.callbacks]\nfine = nowhere:x\n")
    monkeypatch.setenv(VARIABLE, "-three")
    assert of("one")["ema"] == ("callbacks", "shadowed", "offered by 2 packages: write 'one:ema'")
    assert of("one")["timer"] == ("callbacks", "shadowed", "'timer' is trainkit's own: write 'one:timer'")
    assert of("two")["ddp"] == ("strategies", "shadowed", "'ddp' is trainkit's own: write 'two:ddp'")
    assert of("three")["fine"] == ("callbacks", "forbidden", f"may not be used: {VARIABLE}=-three")


@pytest.mark.parametrize(
    ("group", "hint"),
    [
        ("trainkit.callback", "did you mean 'trainkit.callbacks'?"),
        ("trainkit.calbacks", "did you mean 'trainkit.callbacks'?"),
        ("trainkit_callbacks", "did you mean 'trainkit.callbacks'?"),
        ("trainkit-strategy", "did you mean 'trainkit.strategies'?"),
        ("Trainkit.cli", "did you mean 'trainkit.cli'?"),
        ("trainkit.zebras", "trainkit."),
        ("trainkit", "trainkit."),
    ],
)
def test_entry_points_in_groups_that_nobody_reads_are_told(site: Site, group: str, hint: str) -> None:
    site.install("slipped", "0.1", f"[{group}]\nema = nowhere:x\n")
    (line,) = [line for line in unread() if "slipped" in line]
    assert line.startswith(f"'ema' of slipped 0.1 is in the group {group!r}: ") and hint in line


@pytest.mark.parametrize("group", ["trainkit.callbacks", "trainkitten.callbacks", "console_scripts", "pytest11"])
def test_groups_that_are_read_or_not_ours_are_not_told(site: Site, group: str) -> None:
    site.install("fine", "0.1", f"[{group}]\nema = nowhere:x\n")
    assert not [line for line in unread() if "fine" in line]


def test_a_slip_in_what_is_forbidden_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("my-tally", "1.0", "[trainkit.callbacks]\ntally = nowhere:x\n")
    monkeypatch.setenv(VARIABLE, "-my-taly")
    with pytest.warns(UserWarning, match="forbids 'my-taly', which nobody offers. Did you mean 'my-tally'?"):
        tell_of_slips()
    for fine in ("-my-tally", "-my-tally:tally", "-tally", "-nothing_like_it", "-mine"):
        monkeypatch.setenv(VARIABLE, fine)
        tell_of_slips("mine")
