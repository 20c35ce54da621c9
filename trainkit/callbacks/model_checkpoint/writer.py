"""What was planned at a save point becomes files: new ones are written, and then those deleted that they displace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainkit.callbacks.builtin.last_checkpoint import LastCheckpoint
from trainkit.callbacks.model_checkpoint.own_files import OwnFiles
from trainkit.checkpoint.background import BackgroundJob
from trainkit.output import say, warn
from trainkit.printable import printable
from trainkit.storage.files import Content, copy_checkpoint, link_checkpoint, remove_checkpoint, write_checkpoint


@dataclass(slots=True)
class SavePlan:
    """What rank 0 decided at a save point.

    Attributes:
        path: The file of the ranking to write; None if the state is not among the best.
        last: The path of ``last.ckpt``, if it is to be written.
        links_last: Whether that becomes a link to ``path``, and not a copy of it.
        message: What to print once the files are written; may be empty.
        state: The state of the callback with these files.
        keeper: Who keeps the newest state of the run, which this is, and so gets a link to it; None if nobody does.
        number: The number by which the keeper knows this save.
    """

    path: str | None
    last: str | None
    links_last: bool
    message: str
    state: dict[str, Any]
    keeper: LastCheckpoint | None = None
    number: int = 0


class CheckpointWriter:
    """Writes the files of one callback and deletes them, at once or in a thread. Only rank 0 has any.

    Args:
        own: Tells which files the run has written: no others are deleted.

    Attributes:
        background: Where they are written while training goes on.
    """

    def __init__(self, own: OwnFiles) -> None:
        self._own = own
        self.background = BackgroundJob()
        self._kept: set[str] = set()  # files that could not be deleted, and were told of

    def begin(self) -> None:
        """Begin a run: what was told in the one before is told again."""
        self._kept.clear()

    def write(self, plan: SavePlan, obsolete: set[str], checkpoint: Content, path: str) -> None:
        """Write ``checkpoint`` to ``path``, the first of the files of ``plan``, and delete those that are ``obsolete``.

        Args:
            plan: The plan.
            obsolete: Files to delete; those that are gone are taken out of the set.
            checkpoint: What to write.
            path: Where to.
        """
        if plan.keeper is not None and plan.last == plan.keeper.path:
            # It is written here: an earlier save that is finished meanwhile must not take its place.
            plan.keeper.link(plan.last, plan.number)
        write_checkpoint(checkpoint, path)
        self._own.note(path)
        # Copied, or linked, instead of serialized a second time.
        if plan.path and plan.last:
            repeat = link_checkpoint if plan.links_last else copy_checkpoint
            repeat(plan.path, plan.last)
            self._own.note(plan.last)
        if plan.keeper is not None:
            plan.keeper.link(plan.path or plan.last or "", plan.number)
        if plan.message:
            say(f"ModelCheckpoint: {printable(plan.message)}")
        # Last, so that a kill at any moment leaves at least as many whole files as were promised.
        self.delete(obsolete)

    def finish(self) -> None:
        """Wait for the write that runs in the background, if there is one; raise its error."""
        self.background.finish()

    def delete(self, obsolete: set[str]) -> None:
        """Delete those of the ``obsolete`` files that are the run's own, and take out of the set what needs no more."""
        for path in list(obsolete):
            if not self._own.has(path):
                obsolete.discard(path)
                continue
            try:
                remove_checkpoint(self._own.place_of(path))
            except OSError as error:
                # It stays in the set, and so in the state of the callback: the next save tries again.
                if path not in self._kept:
                    self._kept.add(path)
                    warn(f"{path} could not be deleted, and will be tried again: {error}")
            else:
                obsolete.discard(path)
