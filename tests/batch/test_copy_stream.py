from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit.batch.copy_stream import WORTH_IT_BYTES, SideStream, uses_side_stream
from trainkit.batch.transfer import make_transfer
from trainkit.testing import TinyModule, assert_same_weights, quiet_trainer

LARGE = WORTH_IT_BYTES // 4


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (torch.zeros(LARGE), True),
        (torch.zeros(LARGE - 1), False),
        (torch.zeros(LARGE, requires_grad=True), False),
        (nn.Parameter(torch.zeros(LARGE), requires_grad=False), False),
        (torch.zeros(LARGE).to_sparse(), False),
        (torch.zeros(LARGE, device="meta"), False),
    ],
    ids=["large", "small", "in a graph", "of a class of its own", "sparse", "elsewhere"],
)
def test_only_large_plain_tensors_of_the_host_are_copied_aside(tensor, expected):
    assert uses_side_stream(tensor) is expected


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnCuda:
    def test_every_batch_arrives_whole_while_the_device_is_busy(self):
        device = torch.device("cuda")
        aside, busy = SideStream(device), torch.randn(2048, 2048, device=device)
        sums = []
        for index in range(200):
            batch = aside({"x": torch.full((4 * LARGE,), float(index)), "name": "x"})
            for _ in range(5):
                busy = (busy @ busy).tanh()
            sums.append(batch["x"].sum() / batch["x"].numel())
            del batch  # its memory is free for the next copy, but not before the sum is done
        assert torch.stack(sums).tolist() == [float(index) for index in range(200)]

    def test_pinned_memory_may_be_given_back_at_once(self):
        aside = SideStream(torch.device("cuda"))
        arrived = [aside(torch.full((LARGE,), float(index)).pin_memory()) for index in range(100)]
        assert [each[0].item() for each in arrived] == [float(index) for index in range(100)]

    def test_what_is_small_or_no_tensor_arrives_too(self):
        transfer = make_transfer(TinyModule(), None, torch.device("cuda"))
        packed = nn.utils.rnn.pack_sequence([torch.ones(3)])
        x, y, sequence, text = transfer((torch.ones(LARGE), torch.ones(2), packed, "text"), 0)
        assert x.is_cuda and y.is_cuda and sequence.data.is_cuda and text == "text"

    def test_a_fit_equals_one_whose_batches_were_on_the_device(self):
        x, y = torch.randn(6, 5000, 4), torch.randn(6, 5000, 2)
        one, other = TinyModule(), TinyModule()
        on_host = list(zip(x, y, strict=True))
        quiet_trainer(accelerator="cuda", devices=1).fit(one, on_host)
        quiet_trainer(accelerator="cuda", devices=1).fit(other, [(a.cuda(), b.cuda()) for a, b in on_host])
        assert_same_weights(one, other)
