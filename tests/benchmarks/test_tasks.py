from __future__ import annotations

import pytest
import torch

from benchmarks import tasks


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("task", "millions"),
    [(tasks.MLP, 0.005), (tasks.CONVNET, 0.1), (tasks.TRANSFORMER, 0.5), (tasks.GPT2, 163), (tasks.RESNET50, 26)],
    ids=lambda each: getattr(each, "name", ""),
)
def test_networks_fit_their_batches(task, millions):
    if task is tasks.RESNET50:
        pytest.importorskip("torchvision")
    with torch.device("meta"):  # shapes, and no arithmetic
        network, batch = task.make_network(), task.make_batch()
        assert tasks.loss_of(network, batch).shape == ()
    assert parameters(network) / 1e6 == pytest.approx(millions, rel=0.1)


def test_every_network_and_batch_of_a_task_is_equal():
    one, other = tasks.TRANSFORMER.network(), tasks.TRANSFORMER.network()
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)
    for ours, theirs in zip(tasks.TRANSFORMER.batch(), tasks.TRANSFORMER.batch(), strict=True):
        assert torch.equal(ours, theirs)


def test_making_a_task_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    tasks.MLP.network()
    tasks.MLP.batch()
    assert torch.equal(torch.get_rng_state(), before)
