from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.config import read
from trainkit.errors import ConfigError, UnknownNameError

Write = Callable[[str], str]

BASE = """
    seed: 7
    module: {_target_: models.Net, width: 64, layers: [1, 2]}
    data: {_target_: models.Data, size: "${module.width}"}
    trainer: {max_epochs: 10}
    callbacks:
      early_stopping: {monitor: val/loss}
"""


def test_sections_are_read_and_interpolations_resolved(write_config: Write) -> None:
    config = read(write_config(BASE))

    assert config.seed == 7
    assert config.module == {"_target_": "models.Net", "width": 64, "layers": [1, 2]}
    assert config.data == {"_target_": "models.Data", "size": 64}
    assert config.callbacks == {"early_stopping": {"monitor": "val/loss"}}
    assert config.ckpt_path is None


def test_overrides_come_before_interpolation_and_the_last_one_wins(write_config: Write) -> None:
    config = read(write_config(BASE), ["module.width=1", "module.width=128", "+trainer.max_steps=5", "~seed"])

    assert config.module["width"] == 128
    assert config.data is not None
    assert config.data["size"] == 128
    assert config.trainer == {"max_epochs": 10, "max_steps": 5}
    assert config.seed is None


@pytest.mark.parametrize(
    ("override", "section", "expected"),
    [
        ("trainer.max_epochs=1e-3", "trainer", {"max_epochs": 0.001}),
        ("trainer={max_steps: 3}", "trainer", {"max_epochs": 10, "max_steps": 3}),
        ("callbacks.early_stopping=null", "callbacks", {"early_stopping": None}),
        (
            "callbacks.early_stopping.patience=3",
            "callbacks",
            {"early_stopping": {"monitor": "val/loss", "patience": 3}},
        ),
        ("ckpt_path=runs/epoch=2-step=15.ckpt", "ckpt_path", "runs/epoch=2-step=15.ckpt"),
        ("ckpt_path=", "ckpt_path", None),
        ("module.layers[0]=9", "module", {"_target_": "models.Net", "width": 64, "layers": [9, 2]}),
        ("module.layers=[3]", "module", {"_target_": "models.Net", "width": 64, "layers": [3]}),
        ("~callbacks.early_stopping", "callbacks", {}),
        ("seed=${module.width}", "seed", 64),
    ],
)
def test_override(write_config: Write, override: str, section: str, expected: Any) -> None:
    assert getattr(read(write_config(BASE), [override]), section) == expected


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none())
def test_any_scalar_survives_the_command_line(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "scalars.yaml"
    path.write_text("module: {}")

    assert read(path, [f"trainer.value={json.dumps(value)}"]).trainer["value"] == value


def test_written_config_reads_as_the_same(write_config: Write) -> None:
    config = read(
        write_config(BASE), ["trainer.limit_val_batches=0.5", "callbacks.model_summary=null", "module.name='1e3'"]
    )
    Path("again.yaml").write_text(config.to_yaml())

    again = read("again.yaml")

    for section in ("seed", "module", "data", "trainer", "callbacks", "ckpt_path"):
        assert getattr(again, section) == getattr(config, section)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("modul: {}", [], "unknown section 'modul'.*config.yaml: modul.*did you mean 'module'"),
        (
            "module: {}",
            ["trianer.max_epochs=3"],
            "unknown section.*config.yaml: trianer, with trianer.max_epochs=3.*did you mean 'trainer'",
        ),
        ("seed: 3", [], "no section 'module'.*write +module:"),
        ("module: null", [], "no section 'module'"),
        ("module: Net", [], "module='Net' is not usable.*allowed +a mapping"),
        ("module: {1: 2}", [], "module has the key 1"),
        ("{module: {}, seed: yes}", [], "seed=True is not usable.*config.yaml: seed.*allowed +int"),
        ("{module: {}, ckpt_path: 3}", [], "ckpt_path=3 is not usable.*allowed +str"),
        (
            "{module: {}, callbacks: [{monitor: a}]}",
            [],
            r"callbacks.0.={'monitor': 'a'} says no plugin.*write +callbacks",
        ),
        ("{module: {}, callbacks: {ema: true}}", [], "callbacks.ema=True is not usable.*config.yaml: callbacks.ema"),
        ("module: {width: '???'}", [], "module.width is '\\?\\?\\?'.*write +module.width=VALUE"),
        ("module: {width: '${nowhere}'}", [], "module.width cannot be resolved.*nowhere.*config.yaml: module.width"),
        ("module: {width: '${oc.env:TRAINKIT_NO_SUCH}'}", [], "module.width cannot be resolved.*TRAINKIT_NO_SUCH"),
        ("module: {}", ["seed=${nowhere}"], "seed cannot be resolved.*override seed="),
        ("module: {}\nmodule: {}", [], "config.yaml is not a configuration: found duplicate key module .line 2"),
        ("module: [", [], "config.yaml is not a configuration"),
        ("module: '${'", [], "config.yaml"),
        ("[module]", [], "it holds a list"),
        ("module: {}", ["seed"], "override 'seed' is not usable.*allowed +key=value"),
        ("module: {}", ["=3"], "override '=3' is not usable"),
        ("module: {}", ["~"], "override '~' is not usable"),
        ("module: {}", ["seed=[1"], "override 'seed=.1' is not usable"),
        ("module: {}", ["~seed"], "removes 'seed', which is not there"),
        ("module: {}", ["~a.b.c"], "removes 'a.b.c', which is not there"),
        ("module: {layers: [1]}", ["module.layers[7]=1"], "override .* is not usable"),
    ],
)
def test_what_is_wrong_is_named(write_config: Write, text: str, overrides: list[str], message: str) -> None:
    path = write_config(text)

    with pytest.raises(ConfigError, match=f"(?s){message}"):
        read(path, overrides)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml': No such file"):
        read(tmp_path / "nowhere.yaml")


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image.yaml").write_bytes(b"\xff\xfe\x00\x81")

    with pytest.raises(ConfigError, match=r"image.yaml is not a configuration"):
        read(tmp_path / "image.yaml")


def test_unknown_section_lists_what_is_allowed(write_config: Write) -> None:
    with pytest.raises(UnknownNameError) as caught:
        read(write_config("model: {}"))

    assert caught.value.allowed == ["callbacks", "ckpt_path", "data", "module", "plugins", "seed", "shared", "trainer"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("module: {x: &a [*a]}", "holds itself"),
        ("module: &a {_target_: a.B, me: *a}", "holds itself"),
        ("module: {x: " + "[" * 400 + "]" * 400 + "}", "nested too deeply"),
        ("module:\n" + "".join(" " * depth + "a:\n" for depth in range(1, 300)), "nested too deeply"),
        ("module: {x: " + "9" * 5000 + "}", "a whole number of 5000 characters"),
        ("module: {x: !!bool maybe}", "does not fit its tag"),
        ("module: {x: !!float fast}", "could not convert"),
        ("5", "it holds int 5"),
    ],
)
def test_yaml_that_no_run_is_made_of_is_refused(write_config: Write, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"config.yaml is not a configuration: .*{message}"):
        read(write_config(text))


@pytest.mark.parametrize("value", ["!!bool maybe", "!!float fast", "9" * 5000, "[" * 400 + "]" * 400, "&a [*a]"])
def test_override_of_which_no_value_is_made_is_refused(write_config: Write, value: str) -> None:
    with pytest.raises(ConfigError, match="^override .* is not usable: "):
        read(write_config("module: {_target_: a.B}"), [f"module.x={value}"])


@pytest.mark.skipif(os.name == "nt", reason="no pipes with names")
def test_a_configuration_may_come_out_of_a_pipe(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"module: {_target_: models.Net}\ntrainer: {max_epochs: 3}\n")
    os.close(theirs)
    assert read(f"/dev/fd/{ours}").trainer == {"max_epochs": 3}
    os.close(ours)


def test_a_configuration_without_end_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "config.yaml", "wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(ConfigError, match="config.yaml is not a configuration: it is longer than 16777216 bytes"):
        read(tmp_path / "config.yaml")
