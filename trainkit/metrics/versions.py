"""Telling a new value of a metric from one that was there before, also where both are the same number."""

from __future__ import annotations

from typing import Any

from trainkit.metrics.scalars import Table


class Versions:
    """A number for each name in ``callback_metrics``: another one whenever the name gets a value.

    Numbers only tell whether a value is another one than before. They are in checkpoints, so that a plugin that
    remembers the number of the value that it used last goes on with a resumed run.

    Attributes:
        stepped: The names to which batches gave values since somebody asked for their number. A table like those of
            the values, so that a value of a batch costs one assignment more, and no call.
    """

    def __init__(self) -> None:
        self.stepped: Table = {}
        self._numbers: dict[str, int] = {}
        self._newest = 0

    def next(self) -> int:
        """Return a number that no value has yet."""
        self._newest += 1
        return self._newest

    def note(self, name: str, number: int) -> None:
        """Note that ``name`` has the value ``number`` now."""
        self._numbers[name] = number
        self.stepped.pop(name, None)

    def of(self, name: str) -> int:
        """Return the number of the value that ``name`` has now; 0 if it comes from a file without numbers."""
        if name in self.stepped:
            self.note(name, self.next())
        return self._numbers.get(name, 0)

    def of_epoch(self, name: str) -> int | None:
        """Return the number of the value that ``name`` has of an epoch or a validation; None if it is of a batch."""
        # Nothing is numbered: who only shows values, on one rank, leaves all numbers as they are on other ranks.
        return None if name in self.stepped else self._numbers.get(name)

    def clear(self) -> None:
        """Forget all values. Numbers that were used are not used again."""
        self.stepped.clear()
        self._numbers.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return all numbers, and the names that wait for one."""
        return {"numbers": dict(self._numbers), "newest": self._newest, "stepped": list(self.stepped)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.clear()  # in place: slots hold references to `stepped`
        self._numbers.update(state["numbers"])
        self._newest = state["newest"]
        self.stepped.update(dict.fromkeys(state["stepped"], 0.0))
