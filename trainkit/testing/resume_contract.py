"""The check that a run which is continued is the one that was not stopped, which each kind of part has to keep."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from trainkit.testing.compare import assert_same_weights
from trainkit.testing.tiny import TinyData, TinyModule
from trainkit.trainer import Trainer


class Runs(NamedTuple):
    """The three runs that were compared.

    Attributes:
        half: The one that was stopped.
        whole: The one that never stopped.
        resumed: The one that went on from where the first was stopped.
    """

    half: Trainer
    whole: Trainer
    resumed: Trainer


def check_resume(make_trainer: Callable[[int], Trainer]) -> Runs:
    """Check that the weights of a run that is continued are, bit for bit, those of one that was not stopped.

    Args:
        make_trainer: ``(max_epochs) -> a Trainer``, with new parts at each call.

    Returns:
        The runs, for what else they have to agree in.

    Raises:
        AssertionError: If they are not; says where.
    """
    data, whole, resumed = TinyData(num_batches=4), TinyModule(), TinyModule()
    runs = Runs(make_trainer(1), make_trainer(2), make_trainer(2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.ckpt"
        runs.half.fit(TinyModule(), data)
        runs.half.save_checkpoint(path)
        runs.whole.fit(whole, data)
        runs.resumed.fit(resumed, data, ckpt_path=path)
    try:
        assert_same_weights(resumed, whole)
    except AssertionError as error:
        raise AssertionError(f"a run that is continued is not the one that was not stopped: {error}") from error
    return runs
