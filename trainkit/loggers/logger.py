"""The base class of loggers: plugins that write the rows of metrics of a run."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from torch import Tensor

from trainkit.checks import file_path, takes_numpy, text
from trainkit.errors import ConfigError, LogWriteError, MetricError
from trainkit.hooks.callback import Callback
from trainkit.hooks.manager import PluginStage
from trainkit.loggers.run_folder import RunFolder, writing
from trainkit.loggers.run_mark import is_marked, make_mark
from trainkit.module import TrainModule
from trainkit.module.hparams import DATA_SETTINGS, HyperparametersMixin, loggable_hparams
from trainkit.output import warn
from trainkit.printable import is_writable
from trainkit.storage.atomic_write import check_writable
from trainkit.storage.claim import FolderClaim
from trainkit.storage.owners import given_to
from trainkit.storage.places import lies_in
from trainkit.storage.remote import is_remote
from trainkit.types import Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

Status = Literal["success", "failed", "interrupted"]

LOGGED = "logged"
"""The key in a checkpoint, below ``trainkit``: for each logger its class, its folder, and how much it had written."""


class Logger(Callback, ABC):
    """Writes what a run logs, into ``<save_dir>/<name>/version_N`` or wherever a subclass wants.

    A subclass must define ``log_metrics``; the other methods do nothing until it overrides them. Only rank 0 logs.
    Nothing is written, and no folder is made, before there is something to write.

    Args:
        save_dir: The folder of all experiments; None is the Trainer's ``default_root_dir``.
        name: The folder of this experiment within it; None or "" for ``save_dir`` itself.
        version: The run: a number N for ``version_N``, or a folder's whole name. None takes the next free number.
        prefix: Put before the names of metrics, with a ``-`` between.

    Attributes:
        writes: Whether this process logs: True on rank 0 alone, and not in a fast dev run.
        trains: Whether what is logged are rows of training, which a run that goes on logs again. It is False within an
            evaluation, and after a run.
        shares_folder: Whether two loggers of this class may write into one folder.
        makes_folder: Whether a fit makes the folder of its version at its start, so that no other run takes it.

    Raises:
        ConfigError: If ``version`` is not usable.
    """

    stage: ClassVar[PluginStage] = "observe"  # after the module, whose values it writes; before checkpoints
    shares_folder: ClassVar[bool] = True
    makes_folder: ClassVar[bool] = False
    _claim: FolderClaim | None = None  # for the time of a fit, on rank 0
    writes: bool = True  # until `setup` knows the rank: a logger may be used without a Trainer
    trains: bool = True
    _in_run: bool = False
    _has_told: bool = False

    @takes_numpy
    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "trainkit_logs",
        version: int | str | None = None,
        *,
        prefix: str = "",
    ) -> None:
        where = type(self).__name__
        file_path(where, save_dir=save_dir)
        text(where, optional=True, name=name)
        text(where, prefix=prefix)
        self.prefix = prefix
        self._folder = RunFolder(save_dir, name or "", version)
        self._status: Status = "success"
        self._newest_step = 0

    @classmethod
    def beside(cls, other: Logger) -> Self:
        """Return a logger that writes into the folder of ``other``, whichever version that will be."""
        # One RunFolder for both: the version is chosen when a run starts, and two would choose it twice.
        logger = cls()
        logger._folder = other._folder
        return logger

    # What a subclass overrides

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write one row of metrics.

        Args:
            metrics: Numbers by name, or tensors with one element.
            step: The ``global_step`` they belong to; None for that of the newest row.

        Raises:
            LogWriteError: If a file cannot be written.
        """

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Write hyperparameters. Called once when a fit starts, and by users who have more of them."""

    def save(self) -> None:
        """Flush: afterwards everything that was logged so far can be read from the files."""

    def finalize(self, status: Status) -> None:
        """Close all files because a run has ended with ``status``. Another run may follow."""

    def written(self) -> Any:
        """Return how much has been written, for `cut_back`; a checkpoint stores it.

        Only numbers, strings, lists and dicts can be stored.
        """

    def cut_back(self, written: Any) -> None:
        """Remove what training has written after `written` returned this value, each row once the run has passed it.

        Called when a run resumes from the checkpoint that stored it, because the run will log the same steps again. It
        may fail before that, or be killed: until then nothing should be lost. Rows of evaluations, and what others have
        written into the folder, are to stay.
        """

    # Where it writes

    @property
    def experiment(self) -> Any:
        """The object behind this logger, for what only it can do; None if there is none."""
        return None

    @property
    def save_dir(self) -> str:
        """The folder of all experiments."""
        return self._folder.save_dir or os.curdir

    @property
    def name(self) -> str:
        """The folder of this experiment in ``save_dir``."""
        return self._folder.name

    @property
    def version(self) -> int | str:
        """The version of the run within the experiment. A free one is chosen on first access, and kept."""
        return self._folder.version

    @property
    def root_dir(self) -> str:
        """The folder that holds the versions."""
        return self._folder.root

    @property
    def log_dir(self) -> str:
        """The folder of this run."""
        return self._folder.path

    def default_to(self, root_dir: str | os.PathLike[str]) -> None:
        """Take ``root_dir`` for ``save_dir`` if none was given. The Trainer does so with its ``default_root_dir``."""
        self._folder.save_dir = self._folder.save_dir or os.fspath(root_dir)

    def continue_from(self, checkpoint: str | os.PathLike[str]) -> bool:
        """Use the folder of the run that saved ``checkpoint``, if it is a folder of this experiment.

        A ``version`` that was given is kept. Must be called before ``setup``, so that all plugins see the same folder.

        Returns:
            Whether ``checkpoint`` is in the folder of this run.
        """
        return self._folder.continue_from(checkpoint)

    def continue_run(self, checkpoint: str, logged: Iterable[Mapping[str, Any]]) -> None:
        """Use the folder of the run that saved ``checkpoint``, which may lie elsewhere.

        Args:
            checkpoint: The path.
            logged: What is in it under `LOGGED`. A folder that is named there counts if it has the mark of the run, as
                that run has rows which this one will remove.
        """
        if self.continue_from(checkpoint):
            return
        for entry in logged:
            folder = entry["folder"]
            # Only below the folder that the user has chosen is the mark looked for at all.
            if lies_in(folder, self.root_dir) and is_marked(folder, entry.get("mark")):
                self.continue_from(os.path.join(folder, os.path.basename(checkpoint)))
                return

    # Hooks of the run

    def setup(self, trainer: Trainer) -> None:
        self.default_to(trainer.default_root_dir)
        self.writes = trainer.is_global_zero and not trainer.fast_dev_run
        if trainer.fast_dev_run:
            return  # neither a folder, nor a claim on one
        loggers = loggers_of(trainer)
        if not self.shares_folder:
            self._refuse_shared_folder(loggers)
        # Rank 0 chooses: once it has made the folder, another rank that looks for a free number finds the next one.
        others = [each for each in loggers if self.shares_folder or not _alike(each, self)]
        self._folder.share(other._folder for other in others if other is not self)
        claims = self.makes_folder and trainer.state.fn is Stage.FIT
        self._folder.version = trainer.strategy.agreed(lambda: self._checked_version(claims=claims))
        # What cannot be written until here is an error, which costs no training.
        self.trains, self._in_run, self._has_told = trainer.state.fn is Stage.FIT, True, False

    def on_fit_start(self, trainer: Trainer, module: TrainModule) -> None:
        if not trainer.ckpt_path:
            self._log_hyperparams(_hyperparameters(trainer, module))

    def on_train_start(self, trainer: Trainer, module: TrainModule) -> None:
        # A run that has nothing left to train when it goes on does not come here, and changes no file.
        if trainer.ckpt_path:
            self._log_hyperparams(_hyperparameters(trainer, module))

    def on_log(self, metrics: dict[str, float], step: int) -> None:
        if self.writes:
            with self.heard():
                self.log_metrics(metrics, step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not self.writes:
            return
        # A run that is killed and resumes from this checkpoint must not lack rows of earlier steps (they are flushed),
        # nor have rows of later steps twice (the length of the files is stored).
        with self.heard():
            self.save()
        with self.heard():
            folder = _absolute(self.log_dir)
            entry = {"logger": type(self).__qualname__, "folder": folder, "written": self.written()}
            if folder is not None and (mark := make_mark(self.log_dir)):
                entry["mark"] = mark
            checkpoint["trainkit"].setdefault(LOGGED, []).append(entry)

    def on_load_checkpoint(self, trainer: Trainer, checkpoint: dict[str, Any]) -> None:
        # An evaluation of a checkpoint logs nothing again, so nothing is removed.
        if not self.writes or trainer.state.fn is not Stage.FIT:
            return
        folder, path = _absolute(self.log_dir), os.path.abspath(trainer.ckpt_path or "")
        entries = [
            entry
            for entry in checkpoint.get("trainkit", {}).get(LOGGED, ())
            if entry["logger"] == type(self).__qualname__
        ]
        if folder is None:
            return
        is_within = os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))
        # Only the files of the same run: a run that resumes in a new folder leaves those of the old one alone.
        mine = [each for each in entries if each["folder"] == folder]
        mine = [each for each in mine if is_within or is_marked(folder, each.get("mark"))]
        if not mine and path.startswith(os.path.join(folder, "")):
            # The folder was moved as a whole, with the checkpoint in it, so that the stored path is wrong. Which of
            # several loggers of this kind it was is told by their order.
            alike = [logger for logger in loggers_of(trainer) if type(logger) is type(self)]
            mine = entries[alike.index(self) :][:1]
        for entry in mine[:1]:
            with given_to(self, "trainkit.logged", path):
                self.cut_back(entry["written"])

    # Only noted here: `teardown`, which also runs after an exception, closes the files with it.
    def on_exception(self, exception: BaseException) -> None:
        self._status = "interrupted" if isinstance(exception, KeyboardInterrupt) else "failed"

    def teardown(self) -> None:
        status, self._status = self._status, "success"
        try:
            if self.writes:
                with self.heard():
                    self.finalize(status)
        finally:
            self.trains = self._in_run = False
            if self._claim is not None:
                self._claim.release()
                self._claim = None

    # For subclasses

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Return a context in which a `LogWriteError` does not end a run: the first one becomes a warning.

        Outside a run it is raised.
        """
        try:
            yield
        except LogWriteError as error:
            if not self._in_run:
                raise
            self.tell(f"{error} The run goes on, and what it logs is lost until that can be written.")

    def tell(self, lost: str) -> None:
        """Warn that something is lost, once in a run: more would only repeat it."""
        if not self._has_told:
            self._has_told = True
            warn(f"{type(self).__name__}: {lost}")

    def row_of(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Return ``metrics`` as plain numbers, with the prefix before their names. Waits for devices that hold some."""
        before = f"{self.prefix}-" if self.prefix else ""
        row = {}
        for name, value in metrics.items():
            if not is_writable(str(name)):
                raise MetricError(f"no file can hold the name {name!r}, under which a value is logged. Change it.")
            row[f"{before}{name}"] = value.item() if isinstance(value, Tensor) else value
        return row

    def step_of(self, step: int | None) -> int:
        """Return ``step``, or that of the newest row if it is None."""
        if step is not None:
            self._newest_step = step
        return self._newest_step

    def tell_removed(self, path: str | os.PathLike[str]) -> None:
        """Warn that the file at ``path``, or the folder of the run, is gone. Call it before writing on."""
        what = f"{os.fspath(path)} was removed in mid-run, with the rows in it"
        if not os.path.isdir(self.log_dir):
            what = f"{self.log_dir} was removed in mid-run, with all rows and hyperparameters in it"
        self.tell(f"{what}. The run goes on, and writes later rows there again if it can.")

    def _log_hyperparams(self, params: Mapping[str, Any]) -> None:
        if params and self.writes:
            with self.heard():
                self.log_hyperparams(params)

    def _refuse_shared_folder(self, loggers: Iterable[Logger]) -> None:
        for other in loggers:
            if other is not self and _alike(other, self) and _absolute(other.log_dir) == _absolute(self.log_dir):
                raise ConfigError(
                    f"two {type(self).__name__}s would write into {self.log_dir}, over each other. Give one of them "
                    "another name, version or save_dir."
                )

    def _checked_version(self, *, claims: bool) -> int | str:
        if self.makes_folder and is_remote(self.log_dir):
            raise ConfigError(
                f"{type(self).__name__} writes into folders of this machine, and its save_dir, or default_root_dir, is "
                f"{self._folder.save_dir!r}. Give it a save_dir here, or train with logger=False."
            )
        # At the start of the run, not at the first row: an unwritable folder should cost no training.
        with writing(self.log_dir):
            check_writable(Path(self.log_dir))
            if claims:
                self._folder.claim()
        if claims:
            self._claim = FolderClaim(self.log_dir)
        return self.version


def loggers_of(trainer: Trainer) -> list[Logger]:
    """Return the loggers of ``trainer``, with those that came as callbacks."""
    # One that is in both lists counts once.
    return list(dict.fromkeys(each for each in (*trainer.loggers, *trainer.callbacks) if isinstance(each, Logger)))


def _alike(one: Logger, other: Logger) -> bool:
    """Whether two loggers write files of the same kind, as a class and its subclass do."""
    return isinstance(one, type(other)) or isinstance(other, type(one))


def _absolute(folder: str | None) -> str | None:
    return None if folder is None else os.path.abspath(folder)


def _hyperparameters(trainer: Trainer, module: TrainModule) -> dict[str, Any]:
    """Return the hyperparameters of the module, those of the data, and the settings of the Trainer.

    Those of the data are named ``data/batch_size`` and so on: one of the module may have the same name.
    """
    datamodule = trainer.datamodule
    of_data = loggable_hparams(datamodule) if isinstance(datamodule, HyperparametersMixin) else {}
    params = loggable_hparams(module) | {f"{DATA_SETTINGS}{name}": value for name, value in of_data.items()}
    return dict(params) | {name: value for name, value in trainer.settings.items() if name not in params}
