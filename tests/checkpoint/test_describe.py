from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.checkpoint.describe import describe, list_tensors, tensors_in
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def described(tmp_path: Path, place: str, **arguments: Any) -> dict[str, str]:
    """Describe what is saved when the hook ``place`` is called the second time."""
    found: list[dict[str, Any]] = []

    class Save:
        calls = 0

    def save(self: Any, trainer: Any) -> None:
        self.calls += 1
        if self.calls == 2:
            found.append(trainer.dump_checkpoint())

    setattr(Save, place, save)
    trainer = quiet_trainer(**({"max_epochs": 2} | arguments), callbacks=[Save()])
    trainer.fit(TinyModule(), TinyData(3), TinyData(2))
    return dict(describe(found[0]))


def test_it_says_who_wrote_it_and_what_it_is_of(tmp_path: Path) -> None:
    lines = described(tmp_path, "on_train_batch_end")
    assert lines["written by"].startswith("trainkit ")
    assert lines["module"] == "TinyModule: 10 numbers in 2 tensors"
    assert lines["hyperparameters"] == "in_features=4, out_features=2, lr=0.1, seed=0"
    assert lines["ranks"] == "1"
    assert "schedulers" not in lines


def test_it_says_how_far_the_run_had_come(tmp_path: Path) -> None:
    def progress(place: str, **arguments: Any) -> str:
        return described(tmp_path, place, **arguments)["progress"].rpartition(";")[0]

    assert progress("on_train_batch_end") == "epoch 0, 2 updates; behind batch 2 of the epoch"
    assert (
        progress("on_train_batch_end", accumulate_grad_batches=3)
        == "epoch 0, 0 updates; behind batch 2 of the epoch, within an accumulation group"
    )
    assert progress("on_train_epoch_end") == "epoch 1, 6 updates; at the end of an epoch"
    assert progress("on_validation_batch_end") == "epoch 0, 3 updates; in a validation, behind batch 2 of loader 0"


def test_weights_alone_and_files_of_others_are_described_too() -> None:
    foreign = {"state_dict": {"w": torch.zeros(250_000)}, "epoch": 1, "global_step": 2}
    assert describe(foreign) == [
        ("written by", "another program"),
        ("module", "(unknown): 250,000 numbers in 1 tensors"),
        ("progress", "epoch 1, 2 updates; weights only"),
        ("tensors", "state_dict 1 MB"),
    ]
    lines = dict(describe({"state_dict": {}, "weights": torch.zeros(307, dtype=torch.uint8)}))
    assert "progress" not in lines
    assert lines["tensors"] == "weights 307 B"


def test_tensors_are_found_at_any_depth() -> None:
    nested = {"a": [torch.zeros(1), {"b": (torch.zeros(2), 3)}], 4: torch.zeros(3)}
    assert [place for place, _ in tensors_in(nested)] == ["a[0]", "a[1].b[0]", "4"]


@pytest.mark.parametrize(
    ("beside", "use"),
    [
        ({"optimizer_states": [], "lr_schedulers": [], "loops": {"fit_loop": {}}, "callbacks": {}}, "a fit can go on"),
        ({"optimizer_states": []}, "more than weights, but a fit cannot go on from it"),
        ({}, "weights only"),
    ],
)
def test_a_file_of_lightning_is_told_for_what_it_is(beside: dict[str, Any], use: str) -> None:
    foreign = {"state_dict": {}, "epoch": 1, "global_step": 2, "pytorch-lightning_version": "2.6.0", **beside}
    lines = dict(describe(foreign))
    assert lines["written by"] == "Lightning 2.6.0"
    assert lines["progress"].startswith(f"epoch 1, 2 updates; {use}")


NONSENSE = (None, -1, True, "x", [1], {1: 2}, torch.zeros(3))


@pytest.mark.parametrize(
    "key", ["state_dict", "trainkit", "loops", "callbacks", "optimizer_states", "hyper_parameters", "epoch"]
)
def test_what_another_program_has_under_our_names_is_no_error(key: str) -> None:
    for value in NONSENSE:
        assert describe({"state_dict": {}, "epoch": 1, "global_step": 2, key: value})


def test_names_and_values_are_shown_on_one_line() -> None:
    checkpoint = {
        "state_dict": {"a\x1b[2J": torch.zeros(1)},
        "hyper_parameters": {"lr\n": "\u202e", "weights": torch.zeros(2, 2), "many": list(range(1000))},
        "callbacks": {"A\rB(x=1)": {}},
        "trainkit": {"format": "\x07", "version": 1, "module": "M\x9b"},
    }
    lines = dict(describe(checkpoint))
    assert lines["module"].startswith(r"M\x9b: 1 numbers in 1 tensors")
    assert lines["hyperparameters"].startswith(r"lr\n='\u202e', weights=a tensor, float32[2, 2], many=[0, 1")
    assert len(lines["hyperparameters"]) < 400
    assert all(text.isprintable() for text in lines.values())
    assert next(list_tensors(checkpoint)) == r"state_dict.a\x1b[2J  float32[1]"


def test_passwords_and_the_like_are_not_shown() -> None:
    hyperparameters = {
        "lr": 0.1,
        "hf_token": "hunter2",
        "store": {"password": "hunter2", "keys": [{"api_key": "hunter2"}]},
    }
    text = str(describe({"state_dict": {}, "hyper_parameters": hyperparameters}))
    assert "lr=0.1" in text
    assert "hf_token=" in text
    assert "hunter2" not in text
