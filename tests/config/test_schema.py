from __future__ import annotations

import pytest

from trainkit.config.schema import Source


@pytest.mark.parametrize(
    ("overrides", "key", "where"),
    [
        ({}, "module.width", "run.yaml: module.width"),
        ({"module.width": "module.width=3"}, "module.width", "override module.width=3"),
        ({"module": "module={width: 3}"}, "module.width", "override module={width: 3}"),
        ({"module": "module={a: 1}", "module.a": "+module.a=2"}, "module.a", "override +module.a=2"),
        ({"module.width": "module.width=3"}, "module", "run.yaml: module, with module.width=3"),
        ({"module.wide": "module.wide=3"}, "module.width", "run.yaml: module.width"),
    ],
)
def test_where_names_what_was_written_last(overrides: dict[str, str], key: str, where: str) -> None:
    assert Source("run.yaml", overrides).where(key) == where
