from __future__ import annotations

from pathlib import Path

import torch
from tensorboard.plugins.hparams import metadata

from trainkit.loggers.tensorboard.hparams import MAX_TEXT_LENGTH, flattened, session_start


def test_nested_hyperparameters_are_named_by_their_path():
    params = {"optimizer": {"lr": 0.1, "extra": {"fused": True}}, "empty": {}}
    assert flattened(params) == {"optimizer/lr": 0.1, "optimizer/extra/fused": True, "empty": "{}"}


def test_what_is_no_number_is_shown_as_text():
    params = {"a": None, "b": [1, 2], "c": Path("x"), "d": torch.relu, "e": torch.nn.ReLU(), "f": "long " * 100}
    assert flattened(params) == {
        "a": "None",
        "b": "[1, 2]",
        "c": "x",
        "d": "relu",
        "e": "ReLU",
        "f": ("long " * 100)[:250],
    }


def test_each_kind_of_value_keeps_its_type():
    (value,) = session_start({"flag": True, "number": 2, "text": "a"}).value
    start = metadata.parse_session_start_info_plugin_data(value.metadata.plugin_data.content)
    kinds = {name: item.WhichOneof("kind") for name, item in start.hparams.items()}
    assert kinds == {"flag": "bool_value", "number": "number_value", "text": "string_value"}


def test_whole_numbers_beyond_those_of_the_file_are_text():
    large = 2**1100
    assert flattened({"kept": large, "negative": -large, "left_out": 2**20000, "small": 2**900}) == {
        "kept": str(large)[:MAX_TEXT_LENGTH],
        "negative": str(-large)[:MAX_TEXT_LENGTH],
        "left_out": "int",
        "small": 2**900,
    }
    session_start({"kept": large, "left_out": 2**20000})
