from __future__ import annotations

import json
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from trainkit.errors import ConfigError
from trainkit.loggers.queued import QueuedLogger
from trainkit.testing import TinyData, TinyModule, check_logger, quiet_trainer

ARGUMENTS: dict[str, Any] = {"max_epochs": 2, "log_every_n_steps": 1}


class Service(QueuedLogger):
    """A service in this process."""

    def __init__(self, folder: Path, **arguments: Any) -> None:
        super().__init__(folder, **arguments)
        self.rows: list[tuple[dict[str, float], int]] = []
        self.params: dict[str, Any] = {}
        self.opened = 0
        self.closed: list[str] = []
        self.fails = 0
        self.gate = threading.Event()
        self.gate.set()

    def open_run(self) -> None:
        self.opened += 1

    def send_row(self, metrics: dict[str, float], step: int) -> None:
        self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the service is away")
        self.rows.append((metrics, step))

    def send_params(self, params: dict[str, Any]) -> None:
        self.params |= params

    def close_run(self, status: Any) -> None:
        self.closed.append(status)


def fit(logger: Service, folder: Path) -> list[tuple[dict[str, float], int]]:
    """Return the rows of a run, as a plugin beside the logger has heard of them."""
    heard: list[tuple[dict[str, float], int]] = []

    class Hears:
        def on_log(self, metrics: dict[str, float], step: int) -> None:
            heard.append((dict(metrics), step))

    trainer = quiet_trainer(logger=logger, callbacks=[Hears()], default_root_dir=str(folder), **ARGUMENTS)
    trainer.fit(TinyModule(), TinyData(4), TinyData(1))
    return heard


def test_it_keeps_the_contract_of_loggers(tmp_path: Path) -> None:
    check_logger(Service, tmp_path)


def test_all_rows_and_hyperparameters_arrive(tmp_path: Path) -> None:
    logger = Service(tmp_path)
    heard = fit(logger, tmp_path)
    assert logger.rows == heard and len(heard) > 8
    assert logger.params["lr"] == 0.1
    assert (logger.opened, logger.closed) == (1, ["success"])


def test_a_service_that_fails_is_told_once_and_loses_nothing(tmp_path: Path) -> None:
    logger = Service(tmp_path)
    logger.fails = 3
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        heard = fit(logger, tmp_path)
        while logger.fails:
            pass
    assert logger.rows == heard
    messages = [str(each.message) for each in told if "Service" in str(each.message)]
    assert len(messages) <= 1 and all("the service is away" in message for message in messages)


def test_a_service_that_is_away_stops_nothing_and_its_rows_are_in_a_file(tmp_path: Path) -> None:
    logger = Service(tmp_path, patience_s=0.2, most_waiting=3)
    logger.fails = 10**9
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        heard = fit(logger, tmp_path)
    last = str(told[-1].message)
    assert "rows could not be sent in 0.2 s (ConnectionError: the service is away). They are in " in last
    assert len(told) <= 2
    (path,) = tmp_path.rglob("unsent.jsonl")
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(each["row"], each["step"]) for each in kept if "row" in each] == heard


def test_nobody_waits_for_a_service_that_is_slow(tmp_path: Path) -> None:
    logger = Service(tmp_path)
    logger.gate.clear()
    sent_within: list[int] = []

    class Watches:
        def on_train_end(self) -> None:
            sent_within.append(len(logger.rows))
            logger.gate.set()

    trainer = quiet_trainer(logger=logger, callbacks=[Watches()], default_root_dir=str(tmp_path), **ARGUMENTS)
    trainer.fit(TinyModule(), TinyData(4))
    assert sent_within == [0] and logger.rows


@pytest.mark.parametrize("arguments", [{"most_waiting": 0}, {"patience_s": -1}, {"patience_s": "long"}])
def test_wrong_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        Service(tmp_path, **arguments)
