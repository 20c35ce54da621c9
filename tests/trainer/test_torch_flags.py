from __future__ import annotations

import pytest
import torch

from trainkit.testing import quiet_trainer
from trainkit.trainer.torch_flags import torch_flags


def flags():
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "anomaly": torch.is_anomaly_enabled(),
    }


def set_flags(deterministic, warn_only, benchmark):
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.backends.cudnn.benchmark = benchmark


@pytest.fixture(params=[(False, False, False), (True, True, True), (True, False, True)])
def before(request):
    """Torch's flags as the user may have set them."""
    own = flags()
    set_flags(*request.param)
    yield flags()
    set_flags(own["deterministic"], own["warn_only"], own["benchmark"])


@pytest.mark.parametrize(
    ("arguments", "inside"),
    [
        ({}, {}),
        ({"deterministic": True}, {"deterministic": True, "warn_only": False}),
        ({"deterministic": "warn"}, {"deterministic": True, "warn_only": True}),
        ({"deterministic": False}, {"deterministic": False, "warn_only": False}),
        ({"benchmark": True}, {"benchmark": True}),
        ({"benchmark": False}, {"benchmark": False}),
        ({"detect_anomaly": True}, {"anomaly": True}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_what_is_asked_for_holds_inside_and_what_was_before_afterwards(before, arguments, inside):
    with torch_flags(quiet_trainer(**arguments).arguments.optimization):
        assert flags() == before | inside
    assert flags() == before


def test_flags_are_put_back_after_an_exception(before):
    optimization = quiet_trainer(deterministic="warn", benchmark=True).arguments.optimization
    with pytest.raises(ValueError, match="inside"), torch_flags(optimization):
        raise ValueError("inside")
    assert flags() == before
