"""For tests of trainkit and of plugins: tiny modules and data, a recorder, comparisons and contracts.

Nothing here imports a test framework, so that plugin authors may use any::

    from trainkit.testing import Recorder, TinyData, TinyModule, check_callback, quiet_trainer

    def test_my_callback_keeps_its_promises(tmp_path):
        check_callback(lambda: MyCallback(every_n_batches=2))
"""

from __future__ import annotations

from trainkit.testing.callback_contract import check_callback
from trainkit.testing.compare import assert_same_state, assert_same_weights
from trainkit.testing.logger_contract import check_logger
from trainkit.testing.precision_contract import check_precision
from trainkit.testing.profiler_contract import check_profiler
from trainkit.testing.ranks import run_on_ranks
from trainkit.testing.recorder import Call, Recorder
from trainkit.testing.strategy_contract import check_strategy
from trainkit.testing.tiny import TinyData, TinyModule, quiet_trainer

__all__ = [
    "Call",
    "Recorder",
    "TinyData",
    "TinyModule",
    "assert_same_state",
    "assert_same_weights",
    "check_callback",
    "check_logger",
    "check_precision",
    "check_profiler",
    "check_strategy",
    "quiet_trainer",
    "run_on_ranks",
]
