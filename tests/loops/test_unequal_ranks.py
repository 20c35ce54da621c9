"""Ranks with shares of different sizes: their mean is that of all samples."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from trainkit.loops.run import FitRun
from trainkit.loops.unequal_ranks import of_own_share, without_padding
from trainkit.testing import TinyModule, quiet_trainer


@pytest.mark.parametrize("sizes", [[3, 2], [1, 1, 4], [2, 2, 0]])
def test_the_mean_over_ranks_is_that_over_samples(sizes: list[int]):
    samples = torch.arange(float(sum(sizes))).split(sizes)
    weights = [size * len(sizes) / sum(sizes) for size in sizes]
    # A rank without a share has another sample.
    means = [part.mean() if len(part) else torch.tensor(7.0) for part in samples]
    losses = [of_own_share(weight, mean)[0] for weight, mean in zip(weights, means, strict=True)]
    assert float(torch.stack(losses).mean()) == pytest.approx((sum(sizes) - 1) / 2)


def test_a_sum_with_its_weight_counts_as_it_is_or_not_at_all():
    assert of_own_share(1.5, torch.tensor(6.0), 3) == (torch.tensor(6.0), 3)
    assert of_own_share(0.0, torch.tensor(6.0), 3) == (torch.tensor(0.0), 0)


class Logs(TinyModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("seen", float(batch_idx), on_step=True, on_epoch=True, reduce_fx="sum")
        return self.loss(batch)


def test_a_sample_that_is_not_its_own_is_in_no_value_of_the_epoch():
    class Padded:
        """Makes the third batch one of padding."""

        def on_train_batch_start(self, trainer: Any, batch_idx: int) -> None:
            self.context = trainer.metrics.padding() if batch_idx == 2 else None
            if self.context is not None:
                self.context.__enter__()

        def on_train_batch_end(self, trainer: Any) -> None:
            if self.context is not None:
                self.context.__exit__(None, None, None)

    trainer = quiet_trainer(max_epochs=1, limit_train_batches=4, callbacks=[Padded()])
    batches = [(torch.ones(2, 4), torch.ones(2, 2))] * 4
    trainer.fit(Logs(), batches)
    assert trainer.callback_metrics["seen_epoch"] == 0 + 1 + 3
    assert trainer.callback_metrics["seen_step"] == 3


def test_only_batches_without_a_share_are_made_so():
    class Run:
        weight_of_batch = staticmethod(lambda batch_idx: float(batch_idx))
        metrics: Any = type("Metrics", (), {"padding": lambda self: pytest.raises(ZeroDivisionError)})()

    def step(run: Any, hooks: Any, batch: Any, batch_idx: int, is_last: bool) -> Any:
        return {"loss": torch.tensor(1 / batch_idx)}

    run = cast(FitRun, Run())
    assert without_padding(step)(run, cast(Any, None), None, 2, False) == {"loss": torch.tensor(0.5)}
    assert without_padding(step)(run, cast(Any, None), None, 0, False) is None
