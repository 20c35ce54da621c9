"""`MLflowLogger`: rows, hyperparameters and checkpoints of a run go to an MLflow tracking store."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from trainkit.errors import NotAttachedError
from trainkit.loggers import QueuedLogger

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_KEY = "trainkit.run"
"""The tag by which a run that goes on is found."""

_LONGEST_PARAM = 6000
"""Characters of the value of a parameter, as MLflow stores it."""


class MLflowLogger(QueuedLogger):
    """Logs to MLflow, from a thread of its own: a server that is slow or away stops nothing.

    A run that goes on from a checkpoint goes on in the same run of MLflow. The client is imported when a run begins.

    Args:
        experiment_name: The experiment; made if there is none.
        tracking_uri: The store, such as ``http://server:5000`` or ``sqlite:///mlflow.db``. By default that of the
            variable MLFLOW_TRACKING_URI, or else ``mlflow.db`` below ``save_dir``.
        run_name: The name of the run; by default MLflow makes one.
        run_id: The run, to go on with one that is there. By default a new one, or that of the checkpoint.
        parent_run_id: The run of which this is a part, such as a sweep.
        tags: Tags of the run.
        log_model: Which checkpoints to send as artifacts when the run ends: ``"best"``, ``"all"``, or none.
        save_dir: Where local files go; by default the Trainer's ``default_root_dir``.
        prefix: Put before the names of metrics, with a ``-`` between.
        patience_s: How many seconds to wait for the server when the run ends.
    """

    def __init__(
        self,
        experiment_name: str = "trainkit",
        tracking_uri: str | None = None,
        *,
        run_name: str | None = None,
        run_id: str | None = None,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        log_model: Literal["best", "all"] | None = None,
        save_dir: str | os.PathLike[str] | None = None,
        prefix: str = "",
        patience_s: float = 60.0,
    ) -> None:
        super().__init__(save_dir, "mlflow_logs", prefix=prefix, log_model=log_model, patience_s=patience_s)
        self.experiment_name = experiment_name
        self.run_id = run_id
        self._key = ""
        self._uri = tracking_uri
        self._run_name = run_name
        self._tags = {**(tags or {}), **({"mlflow.parentRunId": parent_run_id} if parent_run_id else {})}
        self._client: MlflowClient | None = None

    @property
    def tracking_uri(self) -> str:
        """The store."""
        own = f"sqlite:///{os.path.abspath(os.path.join(self.save_dir, 'mlflow.db'))}"
        return self._uri or os.environ.get("MLFLOW_TRACKING_URI") or own

    @property
    def experiment(self) -> MlflowClient:
        """The client of MLflow, once the run is open; for what only it can do, with `run_id`.

        Raises:
            NotAttachedError: If it cannot be opened in ``patience_s``, or this process does not log.
        """
        if not self.writes or not self.wait_until_open() or self._client is None:
            raise NotAttachedError(f"there is no run of MLflow here: {self._outbox.problem or 'only rank 0 logs'}")
        return self._client

    # In the thread of the outbox

    def open_run(self) -> None:
        from mlflow.tracking import MlflowClient

        os.makedirs(self.save_dir, exist_ok=True)
        client = MlflowClient(self.tracking_uri)
        if self.run_id is None:
            experiment = self._experiment_id(client)
            begun = client.search_runs([experiment], f"tags.`{_KEY}` = '{self.written()['key']}'", max_results=1)
            if begun:
                self.run_id = begun[0].info.run_id
            else:
                tags = {**self._tags, _KEY: self._key}
                self.run_id = client.create_run(experiment, tags=tags, run_name=self._run_name).info.run_id
        client.set_terminated(self.run_id, "RUNNING")  # one that goes on had ended
        self._client = client

    def _experiment_id(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(self.experiment_name)
        if found is not None:
            return str(found.experiment_id)
        place = None
        if self.tracking_uri.startswith("sqlite:"):  # its artifacts beside it, and not in the working folder
            place = f"file://{os.path.abspath(os.path.join(self.save_dir, 'mlartifacts'))}"
        return str(client.create_experiment(self.experiment_name, place))

    def send_row(self, metrics: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entities = [Metric(name, float(value), now, step) for name, value in metrics.items()]
        self._opened_client.log_batch(self.run_id, metrics=entities)

    def send_params(self, params: dict[str, Any]) -> None:
        from mlflow.entities import Param

        held = self._opened_client.get_run(self.run_id).data.params
        texts = {name: str(value)[:_LONGEST_PARAM] for name, value in _flat(params)}
        # MLflow refuses another value for a parameter that is there: what a run goes on with is a tag then.
        self._opened_client.log_batch(
            self.run_id, params=[Param(name, text) for name, text in texts.items() if name not in held]
        )
        for name, text in texts.items():
            if held.get(name, text) != text:
                self._opened_client.set_tag(self.run_id, f"goes on with {name}", text)

    def send_file(self, path: str, aliases: list[str]) -> None:
        folder = "/".join(["checkpoints", *aliases])
        send = self._opened_client.log_artifacts if os.path.isdir(path) else self._opened_client.log_artifact
        send(self.run_id, path, folder)

    def close_run(self, status: str) -> None:
        named = {"success": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
        self._opened_client.set_terminated(self.run_id, named[status])
        self._client = None

    @property
    def _opened_client(self) -> MlflowClient:
        assert self._client is not None, "it is opened ahead of what is sent"
        return self._client

    # What a checkpoint remembers

    def written(self) -> Any:
        # A name of our own: the server gives the run its id later than the first checkpoint may be saved.
        self._key = self._key or secrets.token_hex(8)
        return {"key": self._key}

    def cut_back(self, written: Any) -> None:
        key = str(written["key"])
        if self.run_id is None and key.isalnum():  # it goes into a search
            self._key = key


def _flat(params: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in params.items():
        path = f"{above}/{name}" if above else str(name)
        found += _flat(value, path) if isinstance(value, Mapping) and value else [(path, value)]
    return found
