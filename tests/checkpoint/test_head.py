"""The head of a checkpoint: its run and position, without its tensors."""

from __future__ import annotations

import math
import os

import pytest
import torch

from trainkit.checkpoint.head import Head, head_of, peek, read_head
from trainkit.progress import Progress
from trainkit.testing import TinyData, TinyModule, quiet_trainer


def test_a_file_that_is_none_has_an_empty_head(tmp_path):
    (tmp_path / "text.ckpt").write_text("nothing")
    assert read_head(tmp_path / "text.ckpt") == read_head(tmp_path / "missing.ckpt") == Head()


@pytest.mark.skipif(os.name == "nt", reason="no pipes with names")
def test_nobody_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.ckpt")
    assert read_head(tmp_path / "pipe.ckpt") == Head()
    assert peek(str(tmp_path / "pipe.ckpt")) == (math.inf, math.inf)


def test_a_file_with_code_in_it_has_an_empty_head(tmp_path):
    torch.save({"trainkit": {"run": print}}, tmp_path / "file.ckpt")
    assert read_head(tmp_path / "file.ckpt") == Head()


@pytest.mark.parametrize("weights_only", [True, False])
def test_a_later_state_is_further(tmp_path, weights_only):
    class Saves:
        def on_train_batch_end(self, trainer):
            trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt", weights_only)

    trainer = quiet_trainer(max_epochs=2, callbacks=[Saves()], enable_checkpointing=True, default_root_dir=tmp_path)
    trainer.fit(TinyModule(), TinyData(3))
    heads = [read_head(tmp_path / f"{step}.ckpt") for step in range(1, 7)]
    assert [head.position for head in heads] == sorted(head.position for head in heads)
    assert len({head.position for head in heads}) == 6
    assert [(head.epoch, head.global_step) for head in heads] == [(step // 4, step) for step in range(1, 7)]
    assert {head.run for head in heads} == {trainer.last_checkpoint.run}
    assert {head.resumable for head in heads} == {not weights_only}
    assert [peek(str(tmp_path / f"{step}.ckpt")) for step in range(1, 7)] == [head.made for head in heads]


def test_what_begins_in_another_way_may_be_as_far_as_can_be(tmp_path):
    torch.save({"state_dict": {}, "epoch": 3, "global_step": 4}, tmp_path / "other.ckpt")
    torch.save({"epoch": "x", "global_step": 4}, tmp_path / "text.ckpt")
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "short.ckpt").write_bytes(b"PK")
    for name in ("other", "text", "empty", "short", "missing"):
        assert peek(str(tmp_path / f"{name}.ckpt")) == (math.inf, math.inf)


def test_what_holds_weights_alone_is_placed_by_its_step():
    assert head_of({"epoch": 1, "global_step": 4}).position == Progress(epoch=1, global_step=4).position
