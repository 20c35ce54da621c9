"""Which checkpoints are kept, and how good they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainkit.callbacks.monitor import Mode, as_score, check_mode, check_monitor, is_better, worst
from trainkit.checks import whole
from trainkit.errors import ConfigError
from trainkit.hooks.callback import Callback
from trainkit.storage.files import checkpoint_exists


class KeptCheckpoints(Callback):
    """The memory of `ModelCheckpoint`: which files there are, and which of them are the best.

    Attributes:
        monitor: The metric by which they are ranked; without one only the newest is remembered.
        mode: Whether lower ("min") or higher ("max") is better.
        save_top_k: How many are kept; -1 all, 0 none.
        dirpath: The folder in which they are; None before it is known.
        best_model_path: The best one, or without ``monitor`` the newest; empty if there is none.
        best_model_score: Its score.
        best_k_models: The scores of all that are kept, by path.
        kth_best_model_path: The worst of them, once there are ``save_top_k``.
        kth_value: Its score.
        last_model_path: The path of ``last.ckpt``.
        current_score: The newest score that was judged, whether good or not.
    """

    def __init__(self, dirpath: str | None, monitor: str | None, mode: Mode, save_top_k: int) -> None:
        where = type(self).__name__
        if monitor is not None:
            check_monitor(monitor, where)
        check_mode(mode, where)
        whole("save_top_k", save_top_k, at_least=-1, meaning="-1 for all, 0 for none", where=where)
        if monitor is None and save_top_k > 1:
            raise ConfigError(
                f"{where}: save_top_k={save_top_k} needs a monitor, such as 'val/loss', to tell which are the best. "
                "Without one, save_top_k=1 keeps the newest and -1 all."
            )
        self.dirpath = dirpath
        self.monitor = monitor
        self.mode = mode
        self.save_top_k = save_top_k
        self.best_model_path = ""
        self.best_model_score: Tensor | None = None
        self.best_k_models: dict[str, Tensor] = {}
        self.kth_best_model_path = ""
        self.kth_value = worst(mode)
        self.last_model_path = ""
        self.current_score: Tensor | None = None
        self._saved_step = 0
        self._obsolete: set[str] = set()

    def state_dict(self) -> dict[str, Any]:
        """Return which files there are and how good they are. Arguments that were given in code are not restored."""
        return {
            "monitor": self.monitor,
            "dirpath": self.dirpath,
            "best_model_path": self.best_model_path,
            "best_model_score": _number(self.best_model_score),
            "best_k_models": {path: score.item() for path, score in self.best_k_models.items()},
            "kth_best_model_path": self.kth_best_model_path,
            "kth_value": self.kth_value.item(),
            "last_model_path": self.last_model_path,
            "current_score": _number(self.current_score),
            "saved_step": self._saved_step,
            # Displaced, and deleted once the file is whole that this memory is saved in; a kill may come before that.
            "obsolete": sorted(self._obsolete),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave. Files in another folder are no longer ranked, nor deleted."""
        if self.dirpath is None:
            self.dirpath = state["dirpath"]
        if self.dirpath != state["dirpath"]:
            state = {
                **state,
                "best_k_models": {},
                "kth_best_model_path": "",
                "kth_value": worst(self.mode),
                "obsolete": [],
            }
            if not checkpoint_exists(state["best_model_path"]):
                state |= {"best_model_path": "", "best_model_score": None}
        self._remember(state)

    def _remember(self, state: dict[str, Any]) -> None:
        self.best_model_path = state["best_model_path"]
        self.best_model_score = _score(state["best_model_score"])
        self.best_k_models = {path: as_score(score) for path, score in state["best_k_models"].items()}
        self.kth_best_model_path = state["kth_best_model_path"]
        self.kth_value = as_score(state["kth_value"])
        self.last_model_path = state["last_model_path"]
        self.current_score = _score(state["current_score"])
        self._saved_step = state.get("saved_step", 0)
        self._obsolete = set(state.get("obsolete", ()))

    def _is_among_best(self, score: Tensor, *, is_fresh: bool) -> bool:
        """Judge a score by the monitor. NaN is worst.

        Args:
            score: The monitor's value.
            is_fresh: Whether it was found for the present weights; otherwise it may be that of an earlier judgement.
        """
        score = worst(self.mode) if score.isnan() else as_score(score)
        previous, self.current_score = self.current_score, score
        if self.save_top_k == -1:
            return True
        if not is_fresh and previous is not None and torch.equal(score, previous):
            return False
        kept = sorted(self.best_k_models, key=self._badness)
        return len(kept) < self.save_top_k or is_better(score, self.best_k_models[kept[self.save_top_k - 1]], self.mode)

    def _make_room(self) -> list[str]:
        """Let go of what one more checkpoint displaces, and return its paths."""
        if self.save_top_k == -1:
            return []
        if self.monitor is None:
            return [self.best_model_path]
        displaced = sorted(self.best_k_models, key=self._badness)[self.save_top_k - 1 :]
        for path in displaced:
            del self.best_k_models[path]
        return displaced

    def _admit(self, path: str) -> None:
        """Count ``path`` among what is kept, with the current score."""
        if self.monitor is None or self.current_score is None:
            self.best_model_path = path
            return
        self.best_k_models[path] = self.current_score
        ranked = sorted(self.best_k_models, key=self._badness)
        best, record = self.best_k_models[ranked[0]], self.best_model_score
        # The best so far may be in another folder, from which the run goes on: only a better one takes its place.
        if self.best_model_path in self.best_k_models or record is None or is_better(best, record, self.mode):
            self.best_model_path, self.best_model_score = ranked[0], best
        if len(ranked) == self.save_top_k:
            self.kth_best_model_path, self.kth_value = ranked[-1], self.best_k_models[ranked[-1]]

    def paths_in_use(self) -> set[str]:
        """Return the paths that are still of use."""
        return {*self.best_k_models, self.best_model_path, self.last_model_path}

    def _badness(self, path: str) -> float:
        score = self.best_k_models[path].item()
        return score if self.mode == "min" else -score


def _number(score: Tensor | None) -> float | None:
    return None if score is None else float(score)


def _score(number: float | Tensor | None) -> Tensor | None:
    return None if number is None else as_score(number)
