"""The check of what every logger must keep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainkit.loggers.logger import Logger
from trainkit.testing.callback_contract import check_callback
from trainkit.testing.tiny import TinyData, TinyModule, quiet_trainer


def check_logger(make: Callable[[Path], Logger], folder: Path) -> None:
    """Check that a logger keeps the promises of all loggers.

    It is a callback that keeps theirs, takes rows by step and hyperparameters of any plain type, writes nothing in a
    fast dev run, may be closed twice, and a run that goes on from a checkpoint logs on.

    Args:
        make: Returns a new logger that writes below the folder that it is given.
        folder: An empty folder, such as ``tmp_path`` of pytest.

    Raises:
        AssertionError: If a promise is broken; says which. Errors of the logger itself are raised as they are.
    """
    logger = make(folder / "form")
    assert isinstance(logger, Logger), f"make() gives a {type(logger).__name__}, which is no Logger"
    logger.log_hyperparams({"lr": 0.1, "name": "a", "sizes": [1, 2], "nested": {"on": True}, "nothing": None})
    logger.log_metrics({"loss": 1.0, "a/b": 2}, step=0)
    logger.log_metrics({"loss": 0.5}, step=3)
    logger.log_metrics({"loss": 0.4})  # at the step of the newest row
    logger.save()
    logger.finalize("success")
    logger.finalize("success")
    _check_dry_run(make, folder / "dry")
    _check_run(make, folder / "run")
    made = iter(range(1000))
    check_callback(lambda: make(folder / f"callback{next(made)}"), default_root_dir=str(folder / "root"))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _check_dry_run(make: Callable[[Path], Logger], folder: Path) -> None:
    trainer = quiet_trainer(fast_dev_run=True, callbacks=[make(folder)])
    trainer.fit(TinyModule(), TinyData(2), TinyData(1))
    assert not _files(folder), f"a fast dev run has written {_files(folder)[0]}"


def _check_run(make: Callable[[Path], Logger], folder: Path) -> None:
    rows: list[tuple[dict[str, float], int]] = []

    class Sees:
        def on_log(self, metrics: dict[str, float], step: int) -> None:
            rows.append((metrics, step))

    arguments: dict[str, Any] = {"max_epochs": 1, "log_every_n_steps": 1, "default_root_dir": str(folder)}
    trainer = quiet_trainer(logger=make(folder), callbacks=[Sees()], **arguments)
    trainer.fit(TinyModule(), TinyData(3), TinyData(1))
    trainer.save_checkpoint(folder / "one.ckpt")
    assert rows, "no row was logged"
    # A run that goes on, in the middle of what was logged or behind it, logs on.
    again = quiet_trainer(logger=make(folder), **{**arguments, "max_epochs": 2})
    again.fit(TinyModule(), TinyData(3), TinyData(1), ckpt_path=folder / "one.ckpt")
