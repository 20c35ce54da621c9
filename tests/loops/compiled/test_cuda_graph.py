"""The CUDA graph of a step. What only a device can do is stood in for: a recording reads what lies where it lay."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from tests.loops.compiled.test_step import DATA, RAGGED, Realistic, assert_close, train
from trainkit.errors import CompileError
from trainkit.loops.compiled.cuda_graph import MOVES, RecordedGraph, cuda_graphs
from trainkit.testing import TinyData, TinyModule
from trainkit.trainer import compilation


class Replaying:
    """Records on the CPU: what was recorded is done again with the very tensors and numbers of that moment."""

    def __init__(self):
        self.warmed_up = self.recorded = self.replayed = 0

    def warm_up(self, function, arguments):
        self.warmed_up += 1
        return function(*arguments)

    def record(self, function, arguments):
        self.recorded += 1

        def replay():
            self.replayed += 1
            return function(*arguments)

        return replay


@pytest.fixture
def recorder(monkeypatch):
    recorder = Replaying()
    monkeypatch.setattr(compilation, "_backend", lambda run, settings: cuda_graphs(recorder, "cpu"))
    return recorder


@pytest.mark.filterwarnings("ignore:OneCycleLR .*does not get to its end")
@pytest.mark.parametrize(
    "arguments", [{}, {"gradient_clip_val": 0.1}, {"accumulate_grad_batches": 3}, {"precision": "bf16-mixed"}], ids=str
)
@pytest.mark.parametrize("optimizer", ["adamw", "plain"])
def test_a_replayed_step_equals_the_eager_one(recorder, optimizer, arguments):
    eager, recorded = Realistic(optimizer), Realistic(optimizer)
    expected = train(eager, max_epochs=4, **arguments)
    found = train(recorded, max_epochs=4, compile="cuda-graph", **arguments)

    assert_close(recorded, eager, 1e-5)
    assert found.global_step == expected.global_step
    for name, value in expected.callback_metrics.items():
        torch.testing.assert_close(found.callback_metrics[name], value, rtol=1e-5, atol=1e-5, msg=name)
    assert recorder.replayed > recorder.warmed_up >= recorder.recorded


def test_each_shape_is_recorded(recorder):
    eager, recorded = Realistic("plain"), Realistic("plain")
    train(eager, RAGGED, max_epochs=4)
    train(recorded, RAGGED, max_epochs=4, compile="cuda-graph")
    assert_close(recorded, eager, 1e-5)
    assert (recorder.warmed_up, recorder.recorded) == (2, 2)


def test_a_resumed_run_equals_one_that_never_stopped(recorder, tmp_path):
    class Saves:
        def on_train_batch_end(self, trainer):
            if trainer.progress.total_batches == 8:
                trainer.save_checkpoint(tmp_path / "8.ckpt")

    whole, resumed = Realistic("adamw"), Realistic("adamw")
    train(whole, max_epochs=3, compile="cuda-graph", callbacks=Saves())
    train(resumed, max_epochs=3, compile="cuda-graph", ckpt_path=tmp_path / "8.ckpt", seed=9)
    assert_close(resumed, whole, 0.0)


class Changed(TinyModule):
    """Multiplies its loss with a tensor that changes between steps."""

    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place
        self.register_buffer("factor", torch.ones(()))

    def training_step(self, batch, batch_idx):
        return self.loss(batch) * self.factor

    def on_train_batch_end(self):
        if self.in_place:
            self.factor += 0.5
        else:
            self.factor = self.factor + 0.5


def test_a_tensor_that_is_changed_in_place_is_read_anew(recorder):
    eager, recorded = Changed(True), Changed(True)
    train(eager)
    train(recorded, compile="cuda-graph")
    assert_close(recorded, eager)
    assert recorder.recorded == 1


def test_a_tensor_that_a_graph_changes_is_changed_where_it_lies():
    def add(total, x):
        return total.add_(x)

    total = torch.zeros(2)
    graph = RecordedGraph(fx.symbolic_trace(add), [total, total], Replaying(), "cpu")
    for index in range(4):
        graph(total, torch.full((2,), float(index)))
    assert total.tolist() == [6.0, 6.0]


def test_a_tensor_that_lies_elsewhere_each_time_is_right_and_said(recorder):
    eager, recorded = Changed(False), Changed(False)
    train(eager)
    with pytest.warns(UserWarning, match=rf"recorded the step {MOVES} times.*factor"):
        train(recorded, compile="cuda-graph")
    assert_close(recorded, eager)


def test_a_number_that_is_used_in_the_step_is_refused():
    class Scaled(TinyModule):
        def training_step(self, batch, batch_idx):
            return self.loss(batch) * (1 + batch_idx)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(CompileError, match="(?s)batch_idx.*keep the value"):
        patch.setattr(compilation, "_backend", lambda run, settings: cuda_graphs(Replaying(), "cpu"))
        train(Scaled(), compile="cuda-graph")


def test_what_cannot_be_recorded_says_why(recorder, monkeypatch):
    def refuse(*_):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(recorder, "record", refuse)
    with pytest.raises(CompileError, match="(?s)cannot be recorded.*not permitted when stream is capturing"):
        train(TinyModule(), compile="cuda-graph")


def test_it_needs_a_cuda_device():
    with pytest.raises(CompileError, match=r'compile="cuda-graph" records .* CUDA device, and this is cpu'):
        train(TinyModule(), compile="cuda-graph")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnCuda:
    @pytest.mark.parametrize("arguments", [{}, {"gradient_clip_val": 0.1}, {"accumulate_grad_batches": 3}], ids=str)
    @pytest.mark.parametrize("optimizer", ["sgd", "adamw", "plain"])
    def test_a_recorded_step_equals_the_eager_one(self, optimizer, arguments):
        eager, recorded = Realistic(optimizer), Realistic(optimizer)
        on_cuda = {"accelerator": "cuda", "devices": 1, "max_epochs": 4, **arguments}
        train(eager, **on_cuda)
        train(recorded, **on_cuda, compile="cuda-graph")
        assert_close(recorded, eager, 1e-3)

    def test_outputs_and_logged_values_outlive_the_next_replay(self):
        class Keep:
            def on_train_batch_end(self, outputs):
                losses.append(outputs["loss"])

        losses: list[torch.Tensor] = []
        train(TinyModule(), TinyData(12), accelerator="cuda", devices=1, compile="cuda-graph", callbacks=Keep())
        recorded = torch.stack(losses)
        losses.clear()
        train(TinyModule(), TinyData(12), accelerator="cuda", devices=1, callbacks=Keep())
        torch.testing.assert_close(recorded, torch.stack(losses), rtol=1e-3, atol=1e-3)

    def test_a_step_that_reads_a_value_is_refused(self):
        class Reads(TinyModule):
            def training_step(self, batch, batch_idx):
                loss = self.loss(batch)
                return loss if loss > 0 else -loss

        with pytest.raises(CompileError):
            train(Reads(), DATA, accelerator="cuda", devices=1, compile="cuda-graph")

    def test_dropout_draws_anew_at_each_replay(self):
        class Masks(TinyModule):
            def training_step(self, batch, batch_idx):
                mask = nn.functional.dropout(torch.ones(64, device=self.device))
                return {"loss": self.loss(batch), "mask": mask}

        class Keep:
            def on_train_batch_end(self, outputs):
                masks.append(outputs["mask"].cpu())

        masks: list[torch.Tensor] = []
        train(Masks(), TinyData(12), accelerator="cuda", devices=1, compile="cuda-graph", callbacks=Keep())
        assert len({tuple(mask.tolist()) for mask in masks}) == 12
