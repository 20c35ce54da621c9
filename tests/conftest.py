"""How the tests are run: on the cores there are, one thread in each process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installed import Site

pytest_plugins = ["trainkit.pytest_plugin"]  # as everybody has it who has trainkit installed

# Before torch is imported: the tensors here are tiny, and a thread for each core costs more than it brings.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a run writes where nobody has said where, as trainkit does, be no part of the project."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(autouse=True)
def without_a_process_group() -> Iterator[None]:
    """End the group of this process that a test has left, as one process under fsdp does: later ones would use it."""
    was_there = has_process_group()  # that of a whole file, say
    yield
    if has_process_group() and not was_there:
        sys.modules["torch.distributed"].destroy_process_group()


def has_process_group() -> bool:
    """Whether this process is in a process group; nothing is imported for that."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.group.WORLD is not None  # tests replace `is_initialized`


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A folder in which a test can install packages."""
    folder: Path = tmp_path_factory.mktemp("site")
    monkeypatch.syspath_prepend(str(folder))
    site = Site(folder)
    yield site
    for module in site.modules:
        sys.modules.pop(module, None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Say what ``-n auto`` of pyproject.toml means: a worker for each core, where there is enough to share out.

    None are started for single files and tests, which would be done before the workers are up, nor for who wants to
    see what a test prints (``-s``) or to step through it (``--trace``; pytest-xdist itself knows of ``--pdb``).
    """
    folders = [path for path in config.args if (config.invocation_params.dir / path).is_dir()]
    if not folders or config.option.capture == "no" or config.option.trace:
        return 0
    return None
