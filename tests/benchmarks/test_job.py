from __future__ import annotations

import pytest

from benchmarks import tasks
from benchmarks.job import Job, Unsupported


def test_only_what_is_asked_for_is_refused():
    job = Job(tasks.MLP, [], metrics=2)
    job.refuse(compiled="no compiled step", accumulate="no groups", folder="no files", val_batches="no loaders")
    with pytest.raises(Unsupported, match="no log"):
        job.refuse(compiled="no compiled step", metrics="no log")
    with pytest.raises(Unsupported, match="no groups"):
        Job(tasks.MLP, [], accumulate=2).refuse(accumulate="no groups")


def test_metrics_have_names_of_their_own():
    assert Job(tasks.MLP, [], metrics=2).metric_names == ["metric_0", "metric_1"]
