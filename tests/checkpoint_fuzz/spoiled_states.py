"""States of optimizers and schedulers with one wrong value each: ``python -m tests.checkpoint_fuzz.spoiled_states``.

Every optimizer and scheduler of torch is trained for some steps and saved. In a copy of its checkpoint a value is
replaced, and a fit goes on from it for two steps, in a process of its own. It may end in an error that names the place;
or with the result of the unspoiled file; or with another one, where the value is one that could have been saved.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from tests.checkpoint_fuzz.mutations import GONE, in_child, places, put
from tests.checkpoint_fuzz.programs import rows
from trainkit.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from trainkit.errors import CheckpointError
from trainkit.module import TrainModule
from trainkit.storage.files import read_checkpoint, write_checkpoint
from trainkit.storage.tensors import kind_of
from trainkit.testing import quiet_trainer

STEPS = 4
"""After so many a checkpoint is saved, and a fit goes on from it for two."""


class Module(TrainModule):
    """Two layers, of which the first may be an embedding with sparse gradients, or complex."""

    def __init__(self, optimizer: Callable[[Any], Any], scheduler: Callable[[Any], Any] | None, kind: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        dtype = torch.complex64 if kind == "complex" else torch.float32
        self.weight = nn.Parameter(torch.randn(4, 3, generator=generator, dtype=dtype))
        bias = torch.randn(3, generator=generator, dtype=dtype)
        self.bias = nn.Parameter(bias) if kind != "matrix" else None
        self.register_buffer("scale", torch.ones(3))
        self.kind = kind
        self._make = optimizer, scheduler
        self.automatic_optimization = kind != "sparse"

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x = batch[0]
        if self.kind == "sparse":
            y = nn.functional.embedding(torch.tensor([batch_idx, batch_idx + 1]), self.weight, sparse=True)
            loss = (y * self.scale).square().sum()
            self.optimizers().zero_grad()
            self.manual_backward(loss)
            self.optimizers().step()
            return None
        y = x.to(self.weight.dtype) @ self.weight * self.scale
        loss = (y if self.bias is None else y + self.bias).abs().square().mean()
        self.log("loss", loss.detach())
        return loss

    def configure_optimizers(self) -> Any:
        optimizer, scheduler = self._make
        weights = [self.weight] if self.kind == "sparse" else list(self.parameters())
        made = optimizer([{"params": [each]} for each in weights] if self.kind == "groups" else weights)
        if scheduler is None:
            return made
        config: dict[str, Any] = {"scheduler": scheduler(made), "interval": "step"}
        if isinstance(config["scheduler"], lr_scheduler.ReduceLROnPlateau):
            config |= {"monitor": "loss"}
        return {"optimizer": made, "lr_scheduler": config}


def optimizers() -> dict[str, tuple[Callable[[Any], Any], str]]:
    """Return what makes each optimizer, and for which kind of module."""
    o = torch.optim
    made: dict[str, tuple[Any, dict[str, Any], str]] = {
        "SGD": (o.SGD, {"lr": 0.1}, ""),
        "SGD momentum": (o.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, "groups"),
        "SGD foreach": (o.SGD, {"lr": torch.tensor(0.1), "momentum": 0.9, "foreach": True}, ""),
        "Adam": (o.Adam, {"amsgrad": True}, "groups"),
        "Adam foreach": (o.Adam, {"foreach": True}, ""),
        "Adam complex": (o.Adam, {}, "complex"),
        "Adam fused": (o.Adam, {"fused": True}, ""),
        "AdamW": (o.AdamW, {"lr": torch.tensor(0.01)}, ""),
        "LBFGS": (o.LBFGS, {"lr": 0.5, "max_iter": 3, "history_size": 4}, ""),
        "LBFGS strong": (o.LBFGS, {"max_iter": 3, "history_size": 4, "line_search_fn": "strong_wolfe"}, ""),
        "RMSprop": (o.RMSprop, {"momentum": 0.9, "centered": True}, ""),
        "RMSprop complex": (o.RMSprop, {}, "complex"),
        "SparseAdam": (o.SparseAdam, {}, "sparse"),
        "Muon": (o.Muon, {}, "matrix"),
        "NAdam foreach": (o.NAdam, {"foreach": True}, ""),
        **{
            name: (getattr(o, name), {}, "")
            for name in ("NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "ASGD", "Rprop", "Adafactor")
        },
    }

    def maker(cls: Any, options: dict[str, Any]) -> Callable[[Any], Any]:
        return lambda parameters: cls(parameters, **options)

    return {name: (maker(cls, options), kind) for name, (cls, options, kind) in made.items()}


S = lr_scheduler
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: S.StepLR(o, 2),
    "MultiStepLR": lambda o: S.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: S.ConstantLR(o, total_iters=5),
    "LinearLR": lambda o: S.LinearLR(o, total_iters=6),
    "ExponentialLR": lambda o: S.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: S.PolynomialLR(o, 8),
    "CosineAnnealingLR": lambda o: S.CosineAnnealingLR(o, 9),
    "CosineAnnealingWarmRestarts": lambda o: S.CosineAnnealingWarmRestarts(o, 2, 2),
    "OneCycleLR": lambda o: S.OneCycleLR(o, 0.1, total_steps=9),
    "CyclicLR": lambda o: S.CyclicLR(o, 0.01, 0.1, 3),
    "ReduceLROnPlateau": lambda o: S.ReduceLROnPlateau(o, patience=0),
    "LambdaLR": lambda o: S.LambdaLR(o, lambda step: 0.9**step),
    "MultiplicativeLR": lambda o: S.MultiplicativeLR(o, lambda step: 0.9),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.01),
    "SequentialLR": lambda o: S.SequentialLR(
        o, [S.LinearLR(o, total_iters=3), S.CosineAnnealingWarmRestarts(o, 2), S.StepLR(o, 3)], [2, 5]
    ),
    "ChainedScheduler": lambda o: S.ChainedScheduler(
        [S.ConstantLR(o, 0.5, 5), S.SequentialLR(o, [S.LinearLR(o, total_iters=3), S.ExponentialLR(o, 0.9)], [3])], o
    ),
}


@dataclass(frozen=True)
class Program:
    """What is trained and saved: the part of its checkpoint to be spoiled, and how its trainer is made."""

    module: Callable[[], Module]
    spoiled: tuple[str, ...]
    callbacks: Callable[[], list[Any]] = list
    precision: str = "32-true"

    def fit(self, folder: Path, steps: int, ckpt_path: str | None = None) -> tuple[Any, Module]:
        trainer = quiet_trainer(
            max_epochs=-1,
            max_steps=steps,
            default_root_dir=folder,
            callbacks=self.callbacks(),
            precision=self.precision,
        )
        module = self.module()
        trainer.fit(module, DataLoader(rows(), 5), ckpt_path=ckpt_path)
        return trainer, module


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def module(optimizer: Any, scheduler: Any = None, kind: str = "") -> Callable[[], Module]:
    return lambda: Module(optimizer, scheduler, kind)


PROGRAMS: dict[str, Program] = {
    **{name: Program(module(make, None, kind), ("optimizer_states",)) for name, (make, kind) in optimizers().items()},
    **{name: Program(module(sgd, make, "groups"), ("lr_schedulers",)) for name, make in SCHEDULERS.items()},
    "OneCycleLR groups": Program(module(torch.optim.Adam, SCHEDULERS["OneCycleLR"]), ("optimizer_states",)),
    "weights": Program(module(sgd), ("state_dict",)),
    "complex weights": Program(module(sgd, None, "complex"), ("state_dict",)),
    "averages": Program(
        module(sgd), ("callbacks", "state_dict", "current_model_state"), lambda: [EMAWeightAveraging(decay=0.5)]
    ),
    "stochastic averages": Program(
        module(sgd), ("callbacks",), lambda: [StochasticWeightAveraging(0.05, swa_epoch_start=1)]
    ),
    "scaler": Program(module(sgd), ("trainkit",), precision="16-mixed"),
}


def wrong_values(value: Any) -> dict[str, Any]:
    """Return values to be put in the place of ``value``, by what is wrong with them."""
    found: dict[str, Any] = {"gone": GONE, "none": None, "text": "x", "list": [], "dict": {}}
    if isinstance(value, Tensor):
        return found | _wrong_tensors(value) | (_wrong_numbers(value.item()) if value.numel() == 1 else {})
    if isinstance(value, bool):
        return found | {"not": not value, "0": 0, "1": 1, "tensor": torch.tensor(value)}
    if isinstance(value, int | float):
        return found | _wrong_numbers(value) | {"tensors": torch.tensor([value, value])}
    if isinstance(value, str):
        return found | {"empty": "", "number": 1, "other": value.upper()}
    if isinstance(value, list | tuple):
        kind = type(value)
        return found | {
            "shorter": kind(value[:-1]),
            "longer": kind([*value, *value[-1:]]),
            "reversed": kind(value[::-1]),
            "repeated": kind(value[:1] * len(value)),
            "other kind": tuple(value) if kind is list else list(value),
            "numbered": dict(enumerate(value)),
        }
    if isinstance(value, dict):
        return found | {
            "one more": value | {"x": 1},
            "text keys": {str(key): each for key, each in value.items()},
            "shifted keys": {key + 1 if isinstance(key, int) else key: each for key, each in value.items()},
        }
    return found | {"true": True, "number": 1}


def _wrong_numbers(value: Any) -> dict[str, Any]:
    wrong = (True, 0, -1, 0.5, 10**12, 2**70, float("nan"), float("inf"), -float("inf"), 1j, [value])
    tensors = (torch.tensor(value), torch.tensor([value]), torch.tensor(1j), torch.tensor(value).half())
    return (
        {repr(each): each for each in wrong}
        | {"negative": -value if not isinstance(value, complex) else value}
        | {f"tensor {each.dtype} {each.ndim}": each for each in tensors}
        | {"without data": torch.zeros((), device="meta"), "tensor nan": torch.tensor(float("nan"))}
    )


def _wrong_tensors(value: Tensor) -> dict[str, Any]:
    real = value.real if value.is_complex() else value
    count = max(value.numel(), 1)
    has_gradients = kind_of(value.dtype) in ("real", "complex")
    return {
        "expanded": value.reshape(-1)[:1].expand(count).reshape(value.shape),
        "expanded along one": torch.zeros((), dtype=value.dtype).expand(value.shape),
        "sparse": value.to_sparse(),
        "integers": real.to(torch.int64),
        "bytes": real.to(torch.uint8),
        "booleans": real.to(torch.bool),
        "complex": value.to(torch.complex64) + (0 if value.is_complex() else 1j),
        "real": real.clone(),
        "half": value.to(torch.complex32 if value.is_complex() else torch.float16),
        "double": value.to(torch.complex128 if value.is_complex() else torch.float64),
        "without data": value.to("meta"),
        "requires grad": value.detach()
        .to(real.dtype if kind_of(value.dtype) == "real" else torch.complex64)
        .requires_grad_(),
        "parameter": nn.Parameter(value.detach().to(torch.complex64 if value.is_complex() else torch.float32)),
        "transposed": value.t().contiguous().t() if value.ndim == 2 else torch.stack([value, value], -1)[..., 0],
        "one more dimension": value[None],
        "flat": value.reshape(-1),
        "longer": torch.cat([value.reshape(-1), value.reshape(-1)]),
        "other shape": value.t() if value.ndim == 2 else value.reshape(-1)[:-1],
        "empty": value.reshape(-1)[:0],
        "nan": torch.full_like(value, float("nan")) if has_gradients else value,
        "inf": torch.full_like(value, float("inf")) if has_gradients else value,
        "below zero": -value.abs() - 1,
        "quantized": torch.quantize_per_tensor(real.float(), 0.1, 0, torch.qint8),
        "number": 1.0,
        "numbers": value.tolist(),
    }


@dataclass(frozen=True)
class Spoiling:
    """What is wrong with a checkpoint of a program."""

    program: str
    place: tuple[Any, ...]
    what: str
    wrong: Any

    def __str__(self) -> str:
        return f"{self.program}: {self.what} at {'.'.join(map(str, self.place))}"


COULD_BE_SAVED = {
    *("0", "-1", "0.5", "1000000000000", "negative", "not", "below zero", "reversed", "repeated", "other shape"),
    *("gone", "shorter", "longer", "double", "half", "true", "dict", "number"),
    *("tensor torch.float32 0", "tensor torch.float16 0", "tensor torch.int64 0", "tensor torch.float32 1"),
    *("expanded", "expanded along one"),
}
"""What is a value like any other in most places: nobody can know that it was another one."""


class Spoiled:
    """Valid checkpoints, and what becomes of them when they are spoiled.

    Args:
        folder: For all files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._valid: dict[str, tuple[dict[str, Any], Any]] = {}

    def all_of(self, program: str) -> Iterator[Spoiling]:
        """Yield all that may be wrong with the checkpoint of a program."""
        checkpoint, _ = self.valid(program)
        for part in PROGRAMS[program].spoiled:
            for place in places(checkpoint[part], (part,)) if part in checkpoint else ():
                if part == "trainkit" and place[1:2] != ("precision",):
                    continue
                value: Any = checkpoint
                for key in place:
                    value = value[key]
                with warnings.catch_warnings(action="ignore"):  # of sparse and quantized tensors
                    wrong_ones = wrong_values(value)
                for what, wrong in wrong_ones.items():
                    yield Spoiling(program, place, what, wrong)

    def valid(self, program: str) -> tuple[dict[str, Any], Any]:
        """Return the checkpoint of a program and what a fit makes of it."""
        if program not in self._valid:
            place = self.folder / program.replace(" ", "-")
            with warnings.catch_warnings(action="ignore"):
                trainer, _ = PROGRAMS[program].fit(place, STEPS)
                trainer.save_checkpoint(place / "valid.ckpt")
            checkpoint = read_checkpoint(place / "valid.ckpt")
            self._valid[program] = checkpoint, None
            code, told = self._go_on(program, checkpoint)
            assert code == 0, (program, told)
            self._valid[program] = checkpoint, told
        return self._valid[program]

    def meet(self, spoiling: Spoiling) -> str:
        """Return how a spoiled checkpoint is met: ``named``, ``same``, ``told``, ``plausible``, or what is bad."""
        checkpoint, right = self.valid(spoiling.program)
        try:
            spoiled = put(checkpoint, spoiling.place, spoiling.wrong)
            code, told = self._go_on(spoiling.program, spoiled)
        except CheckpointError:
            return "unwritable"
        if code == 3:
            # Of what is deep within a place, the place itself may be named.
            where = f"{spoiling.place[0]}[{spoiling.place[1]}]" if len(spoiling.place) > 1 else spoiling.place[0]
            return "named" if str(where) in told or str(spoiling.place[-1]) in told else f"BAD unnamed: {told[-300:]}"
        if code != 0:
            lines = [line for line in told.splitlines() if re.match(r"[\w.]+: ", line)]
            return f"BAD raw: {code} {lines[-1][:200] if lines else told[-200:]}"
        if told[1] == right[1]:
            return "same"
        words, (finite, _) = told
        if words != right[0]:
            return "told"
        if not finite:
            return "BAD nan"
        return "plausible" if spoiling.what in COULD_BE_SAVED else "BAD other"

    def _go_on(self, program: str, checkpoint: dict[str, Any]) -> tuple[int, Any]:
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            place = Path(temporary)
            write_checkpoint(checkpoint, place / "a.ckpt")

            def work() -> None:
                warnings.simplefilter("always")
                warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)  # also where it is recorded
                trainer, _ = PROGRAMS[program].fit(place, STEPS + 2, str(place / "a.ckpt"))
                state = trainer.dump_checkpoint()
                torch.save(result_of(state), place / "result")

            code, _ = in_child(work, place)
            output = (place / "output").read_text(errors="replace")
            if code != 0:
                return code, output
            words = re.sub(r"(loss|lr)=\S+", "", output.replace(str(place), ""))
            return code, (words, torch.load(place / "result"))


def result_of(state: dict[str, Any]) -> tuple[bool, str]:
    """Return whether all weights are finite, and all that a fit has come to, as text."""
    weights = state["state_dict"].values()
    finite = all(bool(torch.isfinite(each).all()) for each in weights)
    groups = [[group["lr"] for group in each["param_groups"]] for each in state["optimizer_states"]]
    return finite, repr([_plain(each) for each in ([*weights], groups)])


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, bool | int | float) else value


def draw(spoiled: Spoiled, program: str, count: int, seed: int) -> list[Spoiling]:
    """Return some of what may be wrong with the checkpoint of a program."""
    found = list(spoiled.all_of(program))
    return random.Random(f"{seed} {program}").sample(found, min(count, len(found)))


def main() -> None:
    parser = argparse.ArgumentParser(description="go on from states in which one value is wrong")
    parser.add_argument("--each", type=int, default=20, help="how many of each optimizer and scheduler")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(PROGRAMS), help="these programs")
    parser.add_argument("--show", action="store_true", help="print all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        spoiled = Spoiled(Path(temporary))
        for program in arguments.only:
            for spoiling in draw(spoiled, program, arguments.each, arguments.seed):
                how = spoiled.meet(spoiling)
                counts[how.split(":")[0]] += 1
                if how.startswith("BAD") or arguments.show:
                    print(f"{spoiling}: {how}", flush=True)
    print(dict(counts))
    raise SystemExit(any(how.startswith("BAD") for how in counts))


if __name__ == "__main__":
    main()
