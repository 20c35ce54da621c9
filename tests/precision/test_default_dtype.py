from __future__ import annotations

import pytest
import torch

from trainkit.precision.default_dtype import DefaultDtype


def test_tensors_made_within_have_the_dtype_and_those_made_after_do_not():
    with DefaultDtype(torch.float64):
        assert torch.ones(1).dtype is torch.float64
    assert torch.ones(1).dtype is torch.float32


def test_it_may_be_nested_in_itself():
    context = DefaultDtype(torch.float16)
    with context:
        with context:
            pass
        assert torch.get_default_dtype() is torch.float16
    assert torch.get_default_dtype() is torch.float32


def test_an_exception_restores_what_was_before():
    with pytest.raises(ZeroDivisionError), DefaultDtype(torch.bfloat16):
        raise ZeroDivisionError
    assert torch.get_default_dtype() is torch.float32
