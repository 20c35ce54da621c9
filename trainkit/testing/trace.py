"""`RunTrace` records what happens in a run as a list of digests. Two runs are equal if their lists are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from trainkit.hooks.manager import PluginStage
from trainkit.module import TrainModule
from trainkit.module.shards import whole
from trainkit.seed import rng_state
from trainkit.testing.held import held

if TYPE_CHECKING:
    from trainkit.trainer import Trainer

STOPS = {
    "first batch": "after the first batch",
    "group": "within an accumulation group",
    "middle": "in the middle of an epoch",
    "validation": "in a validation",
    "validated": "after a validation",
    "epoch": "at the end of an epoch",
}
"""The kinds of places at which a `RunTrace` saves a checkpoint, once each."""


@dataclass(frozen=True)
class Event:
    """A value at a place in a run.

    Attributes:
        when: The place in the run, such as ``epoch 0, batch 3``.
        what: The name of the value, such as ``parameter layer.weight`` or ``loss``.
        digest: A digest of the value; see `digest`.
    """

    when: str
    what: str
    digest: str


@dataclass(frozen=True)
class Stop:
    """A checkpoint from which the run can be continued.

    Attributes:
        kind: A key of `STOPS`.
        when: The place in the run.
        checkpoint: The name of the file.
        events: The number of events before it.
    """

    kind: str
    when: str
    checkpoint: str
    events: int


class Enough(BaseException):
    """Ends a traced run. No Exception, so that ``except Exception`` in a user's code does not stop it."""


class RunTrace:
    """Records what happens in the first batches of a run, then ends the run. It has to be the last plugin of its stage.

    Before each training batch it records all weights, the optimizers and the random numbers, then the batch and its
    loss. So the first event that differs between two runs shows where the difference comes from. What the user's own
    objects hold there is recorded beside the events: it is no difference in itself, but may be the cause of one.

    Args:
        folder: The folder for ``events.jsonl``, ``held.jsonl``, ``stops.json``, checkpoints, and ``end.ckpt``, saved at
            the end.
        batches: The number of training batches after which the run ends.
        saves: Whether to save a checkpoint at each of `STOPS`.
    """

    stage: ClassVar[PluginStage] = "persist"

    def __init__(self, folder: Path, batches: int, *, saves: bool) -> None:
        self.folder = folder
        self.batches = batches
        self.stops: list[Stop] = []
        self._wanted = set(STOPS) if saves else set()
        self._events = open(folder / "events.jsonl", "w", encoding="utf-8")  # noqa: SIM115  # closed by teardown()
        self._held = open(folder / "held.jsonl", "w", encoding="utf-8")  # noqa: SIM115  # closed by teardown()
        self._count = 0

    def on_train_batch_start(self, trainer: Trainer, module: TrainModule, batch: Any) -> None:
        self._note_held(trainer, module)
        for what, value in _state(trainer, module):
            self._note(trainer, what, value)
        self._note(trainer, "batch", batch)

    def on_train_batch_end(self, trainer: Trainer, outputs: Any) -> None:
        self._note(trainer, "loss", outputs.get("loss"), finished=True)
        # One checkpoint of each kind, and a batch is of one kind only, so that no two are taken at one place.
        progress = trainer.progress
        if progress.total_batches == self.batches:
            self._end(trainer)
            raise Enough
        if progress.total_batches == 1:
            self._stop(trainer, "first batch")
        elif trainer.fit_run.accumulation.batches:
            self._stop(trainer, "group")
        elif progress.batch > 1 and not progress.is_last:
            self._stop(trainer, "middle")

    def on_validation_batch_start(self, trainer: Trainer, module: TrainModule, batch: Any) -> None:
        # A run that is resumed makes no sanity check, and nothing of it reaches training.
        if not trainer.sanity_checking:
            self._note_held(trainer, module)
            for name, state in rng_state().items():
                self._note(trainer, f"random numbers of {name}, in validation", state)
            self._note(trainer, "validation batch", batch)

    def on_validation_batch_end(self, trainer: Trainer) -> None:
        if not trainer.sanity_checking:
            self._stop(trainer, "validation")

    def on_validation_end(self, trainer: Trainer) -> None:
        if not trainer.sanity_checking:
            self._stop(trainer, "validated")

    def on_train_epoch_end(self, trainer: Trainer) -> None:
        self._stop(trainer, "epoch")

    def on_log(self, trainer: Trainer, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._note(trainer, f"logged value {name}", value, finished=True)

    # Not on_train_end, which is not called where a resumed run has nothing left to train.
    def on_fit_end(self, trainer: Trainer) -> None:
        self._end(trainer)

    def teardown(self) -> None:
        self._events.close()
        self._held.close()
        stops = json.dumps([asdict(stop) for stop in self.stops])
        (self.folder / "stops.json").write_text(stops, encoding="utf-8")

    def _note(self, trainer: Trainer, what: str, value: Any, *, finished: bool = False) -> None:
        """Write an event. ``finished`` is whether the running batch has been counted already."""
        event = Event(_when(trainer, finished=finished), what, digest(value))
        self._events.write(f"{json.dumps(asdict(event))}\n")
        self._count += 1

    def _note_held(self, trainer: Trainer, module: TrainModule) -> None:
        """Write down what objects hold now."""
        values = {each.name: [each.owner, each.kind, digest(each.value), each.shown] for each in held(trainer, module)}
        self._held.write(f"{json.dumps({'when': _when(trainer, finished=False), 'held': values})}\n")

    def _stop(self, trainer: Trainer, kind: str) -> None:
        """Save a checkpoint, if none of this kind has been saved yet."""
        if kind in self._wanted:
            self._wanted.remove(kind)
            name = f"{kind.replace(' ', '-')}.ckpt"
            trainer.save_checkpoint(self.folder / name)
            self.stops.append(Stop(kind, _when(trainer, finished=True), name, self._count))

    def _end(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.folder / "end.ckpt")


def read_events(folder: Path) -> list[Event]:
    """Return the events that a `RunTrace` wrote into ``folder``."""
    with open(folder / "events.jsonl", encoding="utf-8") as lines:
        return [Event(**json.loads(line)) for line in lines]


def read_held(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return what a `RunTrace` saw objects hold: by place, and there by name, owner, kind, digest and value."""
    with open(folder / "held.jsonl", encoding="utf-8") as lines:
        return {entry["when"]: entry["held"] for entry in map(json.loads, lines)}


def read_stops(folder: Path) -> list[Stop]:
    """Return the checkpoints that a `RunTrace` saved in ``folder``."""
    return [Stop(**stop) for stop in json.loads((folder / "stops.json").read_text(encoding="utf-8"))]


def digest(value: Any) -> str:
    """Return a short hexadecimal digest. Values that are equal bit for bit have the same one."""
    hasher = blake2b(digest_size=8)
    for piece in _pieces(value):
        hasher.update(piece)
    return hasher.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    """Yield the bytes that make up a value, with types, shapes, keys and lengths."""
    if isinstance(value, Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        # As bytes of any dtype: numpy has no bfloat16, and NaN has to equal NaN.
        value = whole(value)  # of one that is sharded, all of it
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, dict):
        for key, item in value.items():
            yield repr(key).encode()
            yield from _pieces(item)
    elif isinstance(value, list | tuple):
        yield f"{type(value).__name__}{len(value)}".encode()
        for item in value:
            yield from _pieces(item)
    elif isinstance(value, str | bytes | int | float | complex | bool | None):
        yield repr(value).encode()
    elif hasattr(value, "tobytes"):  # a numpy array or scalar
        yield from (f"{value.dtype}{value.shape}".encode(), value.tobytes())
    else:
        # An object of an unknown class: by its attributes. Its repr may be an address, which differs from run to run.
        yield from _pieces(getattr(value, "__dict__", None) or type(value).__qualname__)


def _state(trainer: Trainer, module: TrainModule) -> Iterator[tuple[str, Any]]:
    """Yield names and values of everything that the next step starts from."""
    # Optimizers keep state by parameter, and a parameter's name is known to the module alone.
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    yield from ((f"parameter {name}", parameter) for name, parameter in module.named_parameters())
    yield from ((f"buffer {name}", buffer) for name, buffer in module.named_buffers())
    for index, optimizer in enumerate(trainer.optimizers):
        for parameter, state in optimizer.state.items():
            for entry, value in state.items():
                yield f"optimizer {index}: {entry} of {names.get(id(parameter), 'a parameter')}", value
        for group in optimizer.param_groups:
            yield from ((f"optimizer {index}: {key}", value) for key, value in group.items() if key != "params")
    yield from ((f"random numbers of {name}", state) for name, state in rng_state().items())


def _when(trainer: Trainer, *, finished: bool) -> str:
    """Return the place in the run in words.

    Args:
        trainer: The Trainer.
        finished: Whether the running batch has been counted already, so that the counter is one ahead of its index.
    """
    progress = trainer.progress
    if progress.in_validation or (trainer.validating and not finished):
        where = f"loader {progress.validation_loader}, batch {progress.validation_batch - finished}"
        return f"epoch {progress.epoch}, validation after batch {progress.batch - 1}, {where}"
    return f"epoch {progress.epoch}, batch {progress.batch - finished}"
