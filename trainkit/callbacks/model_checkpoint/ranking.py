"""The ranking of checkpoints: which are kept, and their scores."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from trainkit.callbacks.monitor import Mode, as_score, check_mode, check_monitor, is_better, worst
from trainkit.checks import whole
from trainkit.errors import ConfigError
from trainkit.hooks.callback import Callback
from trainkit.storage.places import lies_in
from trainkit.storage.remote import is_remote


class KeptCheckpoints(Callback):
    """The state of `ModelCheckpoint`: which files it has written, and which of them are the best.

    Attributes:
        monitor: The metric by which they are ranked; without one only the newest is known.
        mode: Whether lower ("min") or higher ("max") is better.
        save_top_k: How many are kept; -1 all, 0 none.
        dirpath: The folder in which they are; None before it is known.
        best_model_path: The best one, or without ``monitor`` the newest; empty if there is none.
        best_model_score: Its score.
        best_k_models: The scores of all that are kept, by path.
        kth_best_model_path: The worst of them, once there are ``save_top_k``.
        kth_value: Its score.
        last_model_path: The path of ``last.ckpt``.
        current_score: The newest score, whether its checkpoint was kept or not.
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
        self._used_version: int | None = None  # the number of the newest value that had its turn in the ranking
        self._saved_step = 0  # global_step of the newest save; 0, so that nothing is saved before the first update
        self._obsolete: set[str] = set()  # displaced files that are still to be deleted

    def state_dict(self) -> dict[str, Any]:
        """Return the paths of the files and their scores, as plain values.

        The monitor is in it for readers of the checkpoint; on resume the one given in code holds.
        """
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
            "used_version": self._used_version,
            "saved_step": self._saved_step,
            # Deleted once the file that contains this state is whole. A kill may come in between; then the run that
            # resumes from that file deletes them.
            "obsolete": sorted(self._obsolete),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. Files in another folder are neither ranked nor deleted any more.

        Of the paths in ``state`` those count that are in the folder of this callback, or are of this machine: one
        elsewhere could lead to a server, or have fsspec import whatever it names. None is looked at.
        """
        # The folder is another run's: its files stay as they are. Only the best is kept in mind, as what to beat.
        is_same = self.dirpath is not None and self.dirpath == state["dirpath"]
        ranked = {path: score for path, score in state["best_k_models"].items() if lies_in(path, self.dirpath)}
        state = {
            **state,
            "best_k_models": ranked if is_same else {},
            "kth_best_model_path": self._known(state["kth_best_model_path"]) if is_same else "",
            "kth_value": state["kth_value"] if is_same else worst(self.mode),
            "last_model_path": self._known(state["last_model_path"]),
            "best_model_path": self._known(state["best_model_path"]),
            "obsolete": [path for path in state.get("obsolete", ()) if is_same and lies_in(path, self.dirpath)],
        }
        if not state["best_model_path"]:
            state["best_model_score"] = None
        self._restore(state)

    def _known(self, path: object) -> str:
        """Return ``path``, from a file, if it is in the folder of this callback or on this machine; else ""."""
        is_here = isinstance(path, str) and not is_remote(path)
        return path if isinstance(path, str) and (is_here or lies_in(path, self.dirpath)) else ""

    def _restore(self, state: dict[str, Any]) -> None:
        self.best_model_path = state["best_model_path"]
        self.best_model_score = _score(state["best_model_score"])
        self.best_k_models = {path: as_score(score) for path, score in state["best_k_models"].items()}
        self.kth_best_model_path = state["kth_best_model_path"]
        self.kth_value = as_score(state["kth_value"])
        self.last_model_path = state["last_model_path"]
        self.current_score = _score(state["current_score"])
        self._used_version = state.get("used_version")
        self._saved_step = state.get("saved_step", 0)
        self._obsolete = set(state.get("obsolete", ()))

    def _is_among_best(self, score: Tensor) -> bool:
        """Make ``score`` the current one; return whether a checkpoint with it would be kept. NaN is worst."""
        score = self.current_score = worst(self.mode) if score.isnan() else as_score(score)
        if self.save_top_k == -1:
            return True
        # Strictly better than the worst that would stay: of equal ones the earlier is kept. There may be more than
        # save_top_k, if a resumed run was given a smaller one.
        kept = sorted(self.best_k_models, key=self._sort_key)
        return len(kept) < self.save_top_k or is_better(score, self.best_k_models[kept[self.save_top_k - 1]], self.mode)

    def _evict(self) -> list[str]:
        """Remove from the ranking what one more checkpoint displaces, and return the paths."""
        if self.save_top_k == -1:
            return []
        if self.monitor is None:
            return [self.best_model_path]
        displaced = sorted(self.best_k_models, key=self._sort_key)[self.save_top_k - 1 :]
        for path in displaced:
            del self.best_k_models[path]
        return displaced

    def _add(self, path: str) -> None:
        """Add ``path`` to the ranking, with the current score."""
        if self.monitor is None or self.current_score is None:
            self.best_model_path = path
            return
        self.best_k_models[path] = self.current_score
        ranked = sorted(self.best_k_models, key=self._sort_key)
        best, record = self.best_k_models[ranked[0]], self.best_model_score
        # The best so far may be in the folder of the run that this one resumes; only a better one replaces it.
        if self.best_model_path in self.best_k_models or record is None or is_better(best, record, self.mode):
            self.best_model_path, self.best_model_score = ranked[0], best
        if len(ranked) == self.save_top_k:
            self.kth_best_model_path, self.kth_value = ranked[-1], self.best_k_models[ranked[-1]]

    def paths_in_use(self) -> set[str]:
        """Return the paths of the files that must not be deleted."""
        return {*self.best_k_models, self.best_model_path, self.last_model_path}

    def _sort_key(self, path: str) -> float:
        score = self.best_k_models[path].item()
        return score if self.mode == "min" else -score


def _number(score: Tensor | None) -> float | None:
    return None if score is None else float(score)


def _score(number: float | Tensor | None) -> Tensor | None:
    return None if number is None else as_score(number)
