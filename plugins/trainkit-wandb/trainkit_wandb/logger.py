"""`WandbLogger`: rows, hyperparameters, images and checkpoints of a run go to Weights & Biases."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from trainkit.errors import NotAttachedError
from trainkit.loggers import QueuedLogger

if TYPE_CHECKING:
    import wandb

STEP = "trainer/global_step"
"""The metric by which all others are drawn. A run that goes on logs some steps again, which W&B's own steps refuse."""


class WandbLogger(QueuedLogger):
    """Logs to Weights & Biases, from a thread of its own: a service that is slow or away stops nothing.

    A run that goes on from a checkpoint goes on in the same run of W&B. The client is imported when a run begins.

    Args:
        project: The project.
        run_name: The name of the run as it is shown; by default W&B makes one.
        id: The id of the run, to go on with one that is there. By default a new one, or that of the checkpoint.
        offline: Whether to keep everything in local files, for ``wandb sync``.
        entity: The user or team.
        tags: Tags of the run.
        log_model: Which checkpoints to send as artifacts when the run ends: ``"best"``, ``"all"``, or none.
        save_dir: Where local files go; by default the Trainer's ``default_root_dir``.
        prefix: Put before the names of metrics, with a ``-`` between.
        patience_s: How many seconds to wait for the service when the run ends.
        init: Further arguments of ``wandb.init``.
    """

    def __init__(
        self,
        project: str | None = None,
        *,
        run_name: str | None = None,
        id: str | None = None,
        offline: bool = False,
        entity: str | None = None,
        tags: Sequence[str] = (),
        log_model: Literal["best", "all"] | None = None,
        save_dir: str | os.PathLike[str] | None = None,
        prefix: str = "",
        patience_s: float = 60.0,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(save_dir, "wandb_logs", prefix=prefix, log_model=log_model, patience_s=patience_s)
        self.id = id
        self._given_id = id
        self._run: wandb.Run | None = None
        self._options: dict[str, Any] = {
            "project": project,
            "name": run_name,
            "entity": entity,
            "tags": list(tags),
            "mode": "offline" if offline else None,
            **(init or {}),
        }

    @property
    def experiment(self) -> wandb.Run:
        """The run of W&B, once it is open; for what only it can do.

        Raises:
            NotAttachedError: If it cannot be opened in ``patience_s``, or this process does not log.
        """
        if not self.writes or not self.wait_until_open() or self._run is None:
            raise NotAttachedError(f"there is no run of W&B here: {self._outbox.problem or 'only rank 0 logs'}")
        return self._run

    def log_image(self, key: str, images: Sequence[Any], caption: Sequence[str] | None = None) -> None:
        """Log images: tensors of (channels, height, width), arrays of (height, width, channels), or paths."""
        import wandb

        captions = caption or [None] * len(images)
        made = [
            wandb.Image(each.permute(1, 2, 0).cpu().numpy() if hasattr(each, "permute") else each, caption=text)
            for each, text in zip(images, captions, strict=True)
        ]
        self.experiment.log({key: made, STEP: self.step_of(None)})

    # In the thread of the outbox

    def open_run(self) -> None:
        import wandb

        os.makedirs(self.log_dir, exist_ok=True)
        self.id = self.id or secrets.token_hex(4)
        self._run = wandb.init(id=self.id, resume="allow", dir=self.log_dir, reinit="create_new", **self._options)
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP, step_sync=True)

    def send_row(self, metrics: dict[str, float], step: int) -> None:
        self._opened_run.log({**metrics, STEP: step})

    def send_params(self, params: dict[str, Any]) -> None:
        self._opened_run.config.update(params, allow_val_change=True)

    def send_file(self, path: str, aliases: list[str]) -> None:
        import wandb

        artifact = wandb.Artifact(f"model-{self.id}", type="model", metadata={"file": os.path.basename(path)})
        artifact.add_dir(path) if os.path.isdir(path) else artifact.add_file(path)
        self._opened_run.log_artifact(artifact, aliases=aliases or None)

    def close_run(self, status: str) -> None:
        self._opened_run.finish(exit_code=0 if status == "success" else 1)
        self._run = None

    @property
    def _opened_run(self) -> wandb.Run:
        assert self._run is not None, "it is opened ahead of what is sent"
        return self._run

    # What a checkpoint remembers

    def written(self) -> Any:
        self.id = self.id or secrets.token_hex(4)  # it is opened with this one, if it was not yet
        return {"id": self.id}

    def cut_back(self, written: Any) -> None:
        if self._given_id is None:
            self.id = str(written["id"])
