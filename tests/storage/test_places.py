from __future__ import annotations

from pathlib import Path

import pytest

from trainkit.storage.places import lies_in, real

BASE = "s3://bucket/run"


@pytest.mark.parametrize("path", ["a.ckpt", "below/a.ckpt", "./a.ckpt", "below/../a.ckpt"])
def test_what_is_below_a_folder_lies_in_it(tmp_path: Path, path: str) -> None:
    assert lies_in(f"{tmp_path}/{path}", tmp_path)


@pytest.mark.parametrize("path", ["../a.ckpt", "below/../../a.ckpt", "link/a.ckpt", "link/../a.ckpt"])
def test_dots_and_links_lead_out(tmp_path: Path, path: str) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "else" / "where"
    (run / "below").mkdir(parents=True)
    elsewhere.mkdir(parents=True)
    (run / "link").symlink_to(elsewhere)
    assert not lies_in(f"{run}/{path}", run)


@pytest.mark.parametrize("path", ["", None, 3, b"/run/a.ckpt", "/run-2/a.ckpt", "/run/\0/a.ckpt", "/run/\ud800/a.ckpt"])
def test_what_is_no_path_of_it_does_not(path: object) -> None:
    assert not lies_in(path, "/run")
    assert not lies_in(path, None)


@pytest.mark.parametrize(
    ("path", "lies"),
    [
        (f"{BASE}/a.ckpt", True),
        (f"{BASE}/below/a.ckpt", True),
        (f"{BASE}/../a.ckpt", False),
        (f"{BASE}-2/a.ckpt", False),
        (f"{BASE}/a::reference://x.ckpt", False),
        (f"{BASE}/reference://x.ckpt", False),
        ("reference://x.ckpt", False),
        ("/run/a.ckpt", False),
    ],
)
def test_a_url_is_compared_as_text(path: str, lies: bool) -> None:
    assert lies_in(path, BASE) is lies


def test_a_url_is_no_place_in_a_folder() -> None:
    assert not lies_in(f"{BASE}/a.ckpt", "/")
    assert (real(BASE), real("\0")) == (BASE, "")
