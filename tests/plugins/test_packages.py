"""One package with broken metadata breaks nothing but itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.installed import Site
from trainkit.cli.main import main
from trainkit.doctor.offered import plugins
from trainkit.doctor.report import Finding
from trainkit.errors import PluginError, UnknownNameError
from trainkit.plugins import catalog
from trainkit.plugins.installed import offers, tell_of_slips, unread
from trainkit.plugins.packages import broken, is_meant_for_us, offering
from trainkit.testing import TinyData, TinyModule, quiet_trainer

POINTS = "[trainkit.callbacks]\nema = ema_plugin:EMA\n"
METADATA = "Metadata-Version: 2.1\nName: trainkit-ema\nVersion: 0.3\n"

BREAKAGES: dict[str, Callable[[Path], object]] = {
    "no METADATA": lambda folder: (folder / "METADATA").unlink(),
    "an empty METADATA": lambda folder: (folder / "METADATA").write_text(""),
    "no Name": lambda folder: (folder / "METADATA").write_text(METADATA.replace("Name", "Nome")),
    "no Version": lambda folder: (folder / "METADATA").write_text(METADATA.replace("Version: 0", "Verson: 0")),
    "bytes in METADATA": lambda folder: (folder / "METADATA").write_bytes(b"\xff\xfe\x00" + METADATA.encode()),
    "another name": lambda folder: folder.rename(folder.with_name("somewhere_else-0.3.dist-info")),
    "no target": lambda folder: (folder / "entry_points.txt").write_text("[trainkit.callbacks]\nema\n"),
    "an empty target": lambda folder: (folder / "entry_points.txt").write_text("[trainkit.callbacks]\nema =\n"),
    "bytes in entry_points.txt": lambda folder: (folder / "entry_points.txt").write_bytes(
        POINTS.encode() + b"# \xff\xfe"
    ),
}


def install_broken(site: Site, how: str) -> None:
    site.install("trainkit-ema", "0.3", POINTS, ema_plugin="class EMA: ...\n")
    (folder,) = site.folder.glob("trainkit_ema*.dist-info")
    BREAKAGES[how](folder)


@pytest.mark.parametrize("how", BREAKAGES)
def test_what_does_not_name_it_goes_on(how: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_broken(site, how)
    site.install("fine", "1.0", "[trainkit.callbacks]\nmine = fine_plugin:Mine\n", fine_plugin="class Mine: ...\n")
    monkeypatch.setenv("TRAINKIT_PLUGINS", "-nothing")
    tell_of_slips()
    assert unread() == []
    assert [each.name for each in offering() if each.name in ("fine", "trainkit-ema")] == ["fine"]
    trainer = quiet_trainer(callbacks=["mine"], max_epochs=1)
    trainer.fit(TinyModule(), TinyData(2))
    with pytest.raises(UnknownNameError):
        catalog.find("callbacks", "mines")
    assert not catalog.has("callbacks", "emma")


@pytest.mark.parametrize("how", BREAKAGES)
def test_naming_it_is_an_error_that_says_where_and_what_to_do(how: str, site: Site) -> None:
    install_broken(site, how)
    for name in ("ema", f"{broken()[0].name}:ema"):
        with pytest.raises(PluginError, match=f"callback '{name}' is of a package whose metadata are broken") as caught:
            catalog.find("callbacks", name, "config.yaml: callbacks")
        text = str(caught.value)
        assert str(site.folder) in text and "pip install --force-reinstall" in text and "config.yaml" in text
    # Another one that offers the name is used.
    site.install("fine", "1.0", "[trainkit.callbacks]\nema = fine_plugin:Mine\n")
    assert catalog.find("callbacks", "ema").distribution == "fine"


@pytest.mark.parametrize("how", BREAKAGES)
def test_lists_call_it_broken(how: str, site: Site) -> None:
    install_broken(site, how)
    (offer,) = (each for each in offers() if each.entry.distribution not in ("trainkit", "fine"))
    assert (offer.status, offer.entry.name) == ("broken", "ema")
    found = [each for each in plugins() if isinstance(each, Finding)]
    assert [("broken" in each.what, "ema" in each.what) for each in found] == [(True, True)]
    for arguments in (["plugins"], ["plugins", "--check", "--kind", "profilers"], ["plugins", "--from", "trainkit"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
    rows = json.loads(CliRunner().invoke(main, ["plugins", "--json", "--kind", "callbacks"]).stdout)["plugins"]
    assert [row["status"] for row in rows if row["name"] == "ema"] == ["broken"]
    assert "is not installed" in CliRunner().invoke(main, ["plugins", "--from", "nobody"]).output


@pytest.mark.parametrize("seed", range(5))
def test_several_at_once(seed: int, site: Site) -> None:
    draw = random.Random(seed)
    hows = draw.sample(sorted(BREAKAGES), 4)
    for number, how in enumerate(hows):
        # Each in a folder of its own, with a name of its own.
        site.install(f"other-{number}", "1.0", f"[trainkit.callbacks]\nother_{number} = nowhere:Other\n")
        (folder,) = site.folder.glob(f"other_{number}*.dist-info")
        BREAKAGES[how](folder)
        if how == "another name":
            site.folder.joinpath("somewhere_else-0.3.dist-info").rename(site.folder / f"else_{number}-0.3.dist-info")
    site.install("fine", "1.0", POINTS)
    assert len(broken()) == 4
    assert catalog.find("callbacks", "ema").distribution == "fine"


def test_of_two_of_one_name_the_first_is_read(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("trainkit-ema", "0.3", POINTS)
    first = Site(tmp_path)
    first.install("trainkit-ema", "0.4", POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [each.version for each in offering() if each.name == "trainkit-ema"] == ["0.4"]
    # What pip leaves when an installation is interrupted.
    next(site.folder.glob("trainkit_ema*.dist-info")).rename(site.folder / "~rainkit_ema-0.3.dist-info")
    assert [each.version for each in offering() if each.name == "trainkit-ema"] == ["0.4"]
    assert broken() == []


def test_a_package_that_offers_nothing_is_none_of_our_affairs(site: Site) -> None:
    site.install("strange", "1.0", "[console_scripts]\ntrainkit-strange = strange:main\n[other]\n\n= \n")
    (folder,) = site.folder.glob("strange*.dist-info")
    (folder / "METADATA").unlink()
    assert broken() == []


@pytest.mark.parametrize(
    ("group", "is_ours"),
    [("trainkit.callbacks", True), ("trainkit-callbacks", True), ("trainkit", True), ("trainkits.callbacks", False)],
)
def test_a_slip_in_a_group_is_seen(group: str, is_ours: bool) -> None:
    assert is_meant_for_us(group) is is_ours
