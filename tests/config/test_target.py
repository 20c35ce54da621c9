from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from trainkit.config.schema import Source
from trainkit.config.target import locate
from trainkit.errors import ConfigError

SOURCE = Source("config.yaml", {})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Write modules that can be imported until the test ends."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        (tmp_path / name).write_text(text)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def locate_network(target: Any) -> Any:
    return locate(
        target,
        "module._target_",
        SOURCE,
        "a subclass of Module",
        lambda found: isinstance(found, type) and issubclass(found, nn.Module),
    )


def test_target_is_found_wherever_it_is_exported() -> None:
    assert locate_network("torch.nn.Linear") is nn.Linear
    assert locate_network("torch.nn.modules.linear.Linear") is nn.Linear


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Linear", "module._target_='Linear' is not a dotted name.*write +package.module.Class"),
        (None, "module._target_=None is not a dotted name"),
        (3, "module._target_=3 is not a dotted name"),
        ("torch.nn.Linaer", "unknown name in torch.nn 'Linaer'.*config.yaml: module._target_.*did you mean 'Linear'"),
        ("torch.optim.Adam", "torch.optim.Adam is <class .*allowed +a subclass of Module"),
        ("torch.relu", "torch.relu is <built-in.*allowed +a subclass of Module"),
        ("tocrh.nn.Linear", "no module 'tocrh'.*config.yaml: module._target_.*the current directory"),
        ("torch.nm.Linear", "no module 'torch.nm'"),
    ],
)
def test_wrong_target_is_explained(target: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        locate_network(target)


def test_only_what_the_place_expects_is_offered() -> None:
    with pytest.raises(ConfigError) as caught:
        locate_network("torch.optim.Nothing")

    assert "allowed      (none)" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package_at_all", "broken cannot be imported: ModuleNotFoundError: .*raised at +.*broken.py:1"),
        (
            "\n\nraise RuntimeError('no GPU')",
            "broken cannot be imported: RuntimeError: no GPU.*raised at +.*broken.py:3",
        ),
        ("raise SystemExit(3)", "broken cannot be imported: SystemExit: 3.*raised at +.*broken.py:1"),
        ("\ndef f(:\n", "broken cannot be imported: SyntaxError.*raised at +.*broken.py:2"),
    ],
)
def test_file_that_does_not_import_is_named_with_its_line(
    package: Callable[[str, str], None], text: str, message: str
) -> None:
    package("broken.py", text)

    with pytest.raises(ConfigError, match=f"(?s){message}") as caught:
        locate_network("broken.Net")

    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("target", ["json.Net", "json.models.Net"])
def test_a_file_of_the_folder_that_another_module_hides_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("")
    with pytest.raises(ConfigError) as caught:
        locate_network(target)
    (note,) = caught.value.__notes__
    assert f"not looked at {tmp_path}/json.py, as the current folder comes last, and json is" in note
    (tmp_path / "json.py").unlink()
    with pytest.raises(ConfigError) as caught:
        locate_network(target)
    assert not hasattr(caught.value, "__notes__")


def test_a_module_of_the_folder_is_not_hidden_by_itself(
    package: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    package("nets.py", "")
    with pytest.raises(ConfigError) as caught:
        locate_network("nets.Net")
    assert not hasattr(caught.value, "__notes__")
