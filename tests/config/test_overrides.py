from __future__ import annotations

from typing import Any

import pytest

from trainkit.config import read
from trainkit.config.overrides import VARIABLE
from trainkit.errors import ConfigError

SECTIONS = {"module": {"_target_": "models.Net", "sizes": [1, 2], "options": {"a": 1, "b": 2}}}


def module(*overrides: str) -> dict[str, Any]:
    return read(SECTIONS, overrides).module


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("module.sizes+=3", "sizes", [1, 2, 3]),
        ("module.sizes+=[3, 4]", "sizes", [1, 2, [3, 4]]),
        ("module.names+=a", "names", ["a"]),
        ("module.options={a: 3}", "options", {"a": 3, "b": 2}),
        ("module.options:={a: 3}", "options", {"a": 3}),
        ("+module.options.c=3", "options", {"a": 1, "b": 2, "c": 3}),
        ("module.title=run #3", "title", "run #3"),
        ("module.title=#3", "title", "#3"),
        ("module.title='a # b'", "title", "a # b"),
        ("module.at=1:00:00", "at", "1:00:00"),
        ("module.code=010", "code", "010"),
        ("module.code=0o10", "code", 8),
        ("module.code=0x1F", "code", 31),
        ("module.many=1_000", "many", 1000),
        ("module.lr=1e-3", "lr", 0.001),
        ("module.lr=.5", "lr", 0.5),
        ("module.lr=-.inf", "lr", float("-inf")),
        ("module.day=2026-11-28", "day", "2026-11-28"),
        ("module.expression=a=b", "expression", "a=b"),
        ("module.ratio=a:=b", "ratio", "a:=b"),
        ("module.on=yes", "on", True),
        ("module.nothing=", "nothing", None),
    ],
)
def test_a_value_is_what_was_meant(override: str, key: str, expected: Any) -> None:
    assert module(override)[key] == expected
    assert type(module(override)[key]) is type(expected)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("module.options+=3", "options is no list"),
        ("--trainer.max_epochs=3", "write +trainer.max_epochs=3"),
        ("--trainer.max_epochs", "allowed +key=value"),
        ("+=3", "is not usable"),
        (":=3", "is not usable"),
    ],
)
def test_what_is_wrong_is_named(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)override .*{told}"):
        module(override)


def test_those_of_the_environment_come_first_and_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "module.sizes=[9] 'module.title=two words' seed=4")
    assert module("module.sizes+=1") == {
        "_target_": "models.Net",
        "sizes": [9, 1],
        "options": {"a": 1, "b": 2},
        "title": "two words",
    }
    monkeypatch.setenv(VARIABLE, "seed=fast")
    with pytest.raises(ConfigError, match="in +override seed=fast of TRAINKIT_OVERRIDES"):
        module()
    monkeypatch.setenv(VARIABLE, "seed='")
    with pytest.raises(ConfigError, match="TRAINKIT_OVERRIDES=.* is not usable: No closing quotation"):
        module()


@pytest.mark.parametrize(
    "text",
    [
        "module: {_target_: a.B, width: ${seed}}",
        "module:\n  sizes: [1, ${seed}]",
        "module: {a: {b: ${seed}}}",
    ],
)
def test_an_interpolation_without_quotes_is_told_what_to_do(tmp_path: Any, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"put \$\{\.\.\.\} into quotes"):
        read(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("module.options=[1, 2]", "module.options:=[1, 2], in place of the whole"),
        ("module.sizes={b: 1}", "module.sizes is a list here, into which a mapping cannot be merged"),
    ],
)
def test_a_list_over_a_mapping_is_answered_with_the_form_that_replaces(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        module(override)
    assert told in str(caught.value)
    assert module(override.replace("=", ":=", 1)) != SECTIONS["module"]


@pytest.mark.parametrize(
    ("overrides", "key", "where"),
    [
        (["module.sizes+=3"], "module.sizes[2]", "override module.sizes+=3"),
        (["module.sizes+=3"], "module.sizes[1]", "(mapping): module.sizes[1]"),
        (["module.sizes+=3", "module.sizes+=4"], "module.sizes[2]", "override module.sizes+=3"),
        (["module.sizes+=3", "module.sizes=[7, 8, 9]"], "module.sizes[2]", "override module.sizes=[7, 8, 9]"),
        (["module.sizes=[7]", "module.sizes+=8"], "module.sizes[0]", "override module.sizes=[7]"),
        (["module.sizes=[7]", "module.sizes+={a: 8}"], "module.sizes[1].a", "override module.sizes+={a: 8}"),
        (["module.sizes[0]=7"], "module.sizes[0]", "override module.sizes[0]=7"),
        (["module.sizes+=3"], "module.sizes", "(mapping): module.sizes, with module.sizes+=3"),
    ],
)
def test_an_item_of_a_list_is_from_where_it_was_written(overrides: list[str], key: str, where: str) -> None:
    assert read(SECTIONS, overrides).source.where(key) == where
