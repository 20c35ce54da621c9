from __future__ import annotations

import pytest

from trainkit.config import from_config
from trainkit.config.schema import Source, written
from trainkit.errors import ConfigError


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


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("module", "m.Model", "module: {_target_: m.Model}"),
        ("module", {"class": "m.Model", "lr": 1}, "module: {_target_: m.Model, ...}"),
        ("data", {"class_path": "m.Data"}, "data: {_target_: m.Data}"),
        ("module", {"lr": 1}, "module: {_target_: package.file.MyClass, ...}"),
        ("module", None, "module: {_target_: package.file.MyClass}"),
        ("callbacks.mine", "m.C", "callbacks: {mine: {_target_: m.C}}"),
        ("callbacks", ["m.C"], "callbacks: {early_stopping: {monitor: val/loss}, ANY_NAME: {_target_: "),
    ],
)
def test_what_was_meant_is_written_as_it_should_be(key: str, value: object, text: str) -> None:
    assert written(key, value).startswith(text)


@pytest.mark.parametrize(
    ("override", "name"),
    [("module.token=s3cret", "token"), ("+module.api_key=s3cret", "api_key"), ("module.pwd:=s3cret", "pwd")],
)
def test_an_error_names_an_override_without_the_password_in_it(override: str, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_config({"module": {"_target_": "trainkit.testing.TinyModule"}}, [override])
    assert name in str(caught.value)
    assert "s3cret" not in str(caught.value)
