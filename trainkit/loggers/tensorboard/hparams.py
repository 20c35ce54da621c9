"""The records of a run that TensorBoard's HPARAMS page reads."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from trainkit.module.hparams import storable
from trainkit.printable import printable, printable_lines

MAX_TEXT_LENGTH = 250


def session_start(hparams: Mapping[str, Any]) -> Summary:
    """Return the record at the start of a run, with its hyperparameters.

    It names no metrics: without a list TensorBoard offers all curves of the run.
    """
    start = SessionStartInfo(start_time_secs=time.time())
    for name, value in flattened(hparams).items():
        # bool first: True is an int as well.
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    return _record(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))


def session_end(success: bool) -> Summary:
    """Return the record at the end of a run."""
    end = SessionEndInfo(
        status=api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE, end_time_secs=time.time()
    )
    return _record(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def flattened(params: Mapping[str, Any], before: str = "") -> dict[str, bool | float | str]:
    """Return nested hyperparameters on one level, such as ``optimizer/lr``. Values that are no numbers become text."""
    flat: dict[str, bool | float | str] = {}
    kept, left_out = storable(params)
    for key, value in params.items():
        name = f"{before}{printable(key)}"
        value = kept.get(str(key), value)  # converted where that loses nothing, such as a numpy scalar
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{name}/")
        elif isinstance(value, bool | float) or (isinstance(value, int) and abs(value) <= sys.float_info.max):
            flat[name] = value
        elif str(key) in left_out:  # a network, a function: its name says enough
            flat[name] = getattr(value, "__name__", type(value).__name__)
        else:
            flat[name] = printable_lines(value)[:MAX_TEXT_LENGTH]
    return flat


def _record(tag: str, data: HParamsPluginData) -> Summary:
    value = Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])
