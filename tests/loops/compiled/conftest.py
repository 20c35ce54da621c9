"""Compiling without a C++ compiler: graphs are made as ever, and run by the kernels of eager code."""

from __future__ import annotations

import pytest


@pytest.fixture
def machine_code():
    """Ask for what users get: code that a C++ compiler has compiled, which takes seconds for each graph."""


@pytest.fixture(autouse=True)
def quick_compiler(request):
    import torch._inductor.config as config

    with config.patch(fallback_by_default="machine_code" not in request.fixturenames):
        yield
