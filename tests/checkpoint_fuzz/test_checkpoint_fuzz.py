"""Five hundred wrong checkpoints; ``python -m tests.checkpoint_fuzz --mutations 10000`` makes more of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.checkpoint_fuzz.mutations import GONE, Fuzz, Mutation

pytestmark = pytest.mark.slow

MUTATIONS = 500
AT_A_TIME = 25
LOG = ("trainkit", "ranks", 0, "metrics", "phases", "train", "slots", 0)

MET_BADLY_BEFORE: list[tuple[str, tuple[Any, ...], Any, str]] = [
    ("common", ("trainkit", "made_with", "optimizer"), True, "fit"),
    ("common", ("trainkit",), {}, "fit"),
    ("common", ("trainkit", "format"), {}, "fit"),
    ("common", ("trainkit", "hparams_enums"), "", "fit"),
    ("common", ("trainkit", "ranks", 0, "rng", "numpy", 0), "", "fit"),
    ("common", ("trainkit", "ranks", 0, "data", "datamodule", "given"), None, "fit"),
    ("common", (*LOG, "loaders", 0), 7, "fit"),
    ("common", (*LOG, "settled"), torch.tensor(float("nan")), "fit"),
    ("common", ("trainkit", "ranks", 0, "metrics", "torchmetrics", "mean", "states", "mean_value"), [None], "fit"),
    ("common", ("trainkit", "ranks", 0, "data", "train", "cursors", 0, "checksum"), GONE, "fit"),
    ("common", ("trainkit", "logged"), ("x",), "fit"),
    ("common", ("callbacks", "LearningRateMonitor"), "os.system", "fit"),
    ("common", ("callbacks", "EMAWeightAveraging"), 7, "fit"),
    ("common", ("callbacks", "LRSchedulers", "used_versions"), 10**12, "fit"),
    ("common", ("lr_schedulers", 0, "_step_count"), {1}, "fit"),
    ("common", ("lr_schedulers", 0, "step_size"), 0, "fit"),
    ("common", ("optimizer_states", 0, "state", 1, "exp_avg_sq"), True, "fit"),
    ("common", ("optimizer_states", 0, "param_groups", 0, "eps"), None, "fit"),
    ("common", ("optimizer_states", 0, "param_groups", 0, "foreach"), torch.zeros(3), "fit"),
    ("common", ("epoch",), 7, "last"),
    ("common", ("hyper_parameters", "lr"), {"x": 1}, "load"),
    ("manual", ("trainkit", "ranks"), [], "fit"),
    ("manual", ("callbacks", "Remembers", "seen"), 0, "fit"),
    ("manual", ("loops", "fit", "group_batches"), 10**12, "fit"),
    ("averaged", ("trainkit", "ranks", 0, "data", "train", "cursors", 0, "samples"), GONE, "fit"),
    ("lightning", ("loops", "fit_loop"), GONE, "fit"),
    ("lightning", ("optimizer_states", 0, "param_groups"), "x", "fit"),
    ("averaged", ("callbacks", "StochasticWeightAveraging", "scheduler"), {"anneal_epochs": "x"}, "fit"),
    ("tuned", ("callbacks", "BackboneFinetuning", "finetuning"), {"trained": [], "groups": 7}, "fit"),
    ("half", ("trainkit", "ranks", 0, "data", "made", "random", 0), -1, "fit"),
    ("half", ("trainkit", "ranks", 0, "data", "made", "random", 1), [], "fit"),
]
"""The program, the place, what was there, and who met it."""


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes that are forked
    yield Fuzz(tmp_path_factory.mktemp("fuzz"))
    torch.set_num_threads(threads)


def met_badly(fuzz: Fuzz, mutations: list[Mutation]) -> dict[str, str]:
    found = {str(mutation): fuzz.try_one(mutation) for mutation in mutations}
    return {mutation: what for mutation, what in found.items() if what}


@pytest.mark.parametrize("first", range(0, MUTATIONS, AT_A_TIME))
def test_a_wrong_checkpoint_ends_in_a_named_error_or_the_right_result(fuzz: Fuzz, first: int) -> None:
    assert met_badly(fuzz, [fuzz.draw(seed) for seed in range(first, first + AT_A_TIME)]) == {}


def test_what_was_met_badly_once_is_met_well(fuzz: Fuzz) -> None:
    numbers = {name: number for number, (name, _) in reversed([*enumerate(fuzz.valid)])}
    mutations = [
        Mutation(-1 - index, numbers[program], program, place, wrong, use)
        for index, (program, place, wrong, use) in enumerate(MET_BADLY_BEFORE)
    ]
    assert met_badly(fuzz, mutations) == {}
