"""Checkpoints that are whole and wrong: a value of a valid one, at any place, replaced by a wrong one.

Each is used in a process of its own, forked from this one, which tells of everything that it opens for writing,
deletes, imports, connects to or starts outside the folder of its run.
"""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchmetrics
from click.testing import CliRunner
from torch.utils.data import DataLoader

import trainkit
from trainkit.callbacks import EarlyStopping, EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint
from trainkit.cli.checkpoint import command as checkpoint_command
from trainkit.errors import TrainkitError
from trainkit.loggers import CSVLogger
from trainkit.storage.files import write_checkpoint
from trainkit.testing import TinyModule, quiet_trainer

LONGEST_S = 30
GONE = object()
"""In place of a value: there is none."""

WRONG: list[Any] = [
    *(GONE, None, True, 0, 1, -1, 7, 10**12, 2**63, 0.5, float("nan"), float("inf"), 1j),
    *("", "x", "../x", "/etc/hostname", "reference://x", "ftp://127.0.0.1:9/x", "[bold]x[/y]", "\x1b[31mx", "\ud800"),
    *("{epoch}", "${oc.env:HOME}", "$(touch acted)", "os.system", b"x"),
    *([], [None], {}, {"x": 1}, (), ("x",), {1}, [[1]], {0: {}}),
    *(torch.zeros(0), torch.zeros(3), torch.tensor(float("nan")), torch.zeros(2, device="meta")),
    torch.zeros(1).expand(1000),
]

USES = ("fit", "last", "validate", "load", "best", "show", "verify", "diff", "export")


class Module(TinyModule):
    """Metrics, schedules, and everything else that a checkpoint may hold."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr=lr)
        self.save_hyperparameters()
        self.mean = torchmetrics.MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.mean(loss.detach())
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("mean", self.mean)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.1)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2), "interval": "step"}]


class Data(trainkit.DataModule):
    """A data module with a state."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0
        generator = torch.Generator().manual_seed(0)
        self.rows = torch.utils.data.TensorDataset(torch.randn(10, 4, generator=generator), torch.ones(10, 2))

    def train_dataloader(self) -> Any:
        self.given += 1
        return DataLoader(self.rows, 2, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.rows, 5)

    def state_dict(self) -> dict[str, Any]:
        return {"given": self.given}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.given = state_dict["given"]


def make_trainer(folder: Path, *callbacks: Any, epochs: int = 2) -> trainkit.Trainer:
    return quiet_trainer(
        max_epochs=epochs,
        accumulate_grad_batches=2,
        gradient_clip_val=1.0,
        log_every_n_steps=1,
        enable_checkpointing=True,
        default_root_dir=folder,
        logger=CSVLogger(),
        callbacks=[
            ModelCheckpoint(monitor="val_loss", save_top_k=2, save_last=True),
            EarlyStopping("val_loss", patience=9),
            EMAWeightAveraging(decay=0.9),
            LearningRateMonitor(),
            *callbacks,
        ],
    )


def make_checkpoints(folder: Path) -> list[dict[str, Any]]:
    """Return what is saved within a group, within a validation, and at the end of an epoch."""
    saved: list[dict[str, Any]] = []

    class Keeps:
        def keep(self, trainer: trainkit.Trainer) -> None:
            saved.append(copy.deepcopy(trainer.dump_checkpoint()))

        def on_train_batch_end(self, trainer: trainkit.Trainer) -> None:
            if trainer.progress.total_batches == 3:
                self.keep(trainer)

        def on_validation_batch_end(self, trainer: trainkit.Trainer) -> None:
            if not trainer.sanity_checking and not saved[1:]:
                self.keep(trainer)

        def on_train_epoch_end(self, trainer: trainkit.Trainer) -> None:
            if not saved[2:]:
                self.keep(trainer)

    trainkit.seed_everything(0)
    make_trainer(folder, Keeps()).fit(Module(), datamodule=Data())
    return saved


@dataclass(frozen=True)
class Mutation:
    """What is wrong with a checkpoint, and who uses it.

    Attributes:
        seed: By which it was drawn.
        checkpoint: Which of the valid ones.
        place: The keys that lead to the value.
        wrong: What is there instead.
        use: Who uses it.
    """

    seed: int
    checkpoint: int
    place: tuple[Any, ...]
    wrong: Any
    use: str

    def __str__(self) -> str:
        wrong = "nothing" if self.wrong is GONE else repr(self.wrong)[:40]
        return f"{self.seed}: {self.use} of {self.checkpoint} with {wrong} at {list(self.place)}"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield all places within ``value``, of containers too. Of long lists the first entries stand for all."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, entry in list(entries)[:40]:
        yield (*path, key)
        yield from places(entry, (*path, key))


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of ``value`` with ``new`` at ``place``."""
    key, *rest = place
    if isinstance(value, dict):
        changed = dict(value)
        if not rest and new is GONE:
            del changed[key]
        else:
            changed[key] = put(value[key], tuple(rest), new) if rest else new
        return changed
    entries = list(value)
    if not rest and new is GONE:
        del entries[key]
    else:
        entries[key] = put(value[key], tuple(rest), new) if rest else new
    return type(value)(entries)


class Fuzz:
    """Draws mutations and tries them.

    Args:
        folder: For all files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with warnings.catch_warnings(action="ignore"):
            self.valid = make_checkpoints(folder / "valid")
        self._places = [list(places(checkpoint)) for checkpoint in self.valid]

    def draw(self, seed: int) -> Mutation:
        chance = random.Random(seed)
        number = chance.randrange(len(self.valid))
        # Half of them lead to a fit, which looks at most of the file.
        use = chance.choice(USES) if chance.random() < 0.5 else "fit"
        return Mutation(seed, number, chance.choice(self._places[number]), chance.choice(WRONG), use)

    def try_one(self, seed: int) -> str:
        """Return what is wrong with how a mutation is met; empty if it is a named error, or all is well."""
        mutation, place = self.draw(seed), self.folder / str(seed)
        # As files lie in the folder of a run.
        run = place / "trainkit_logs" / "version_0"
        run.mkdir(parents=True)
        try:
            write_checkpoint(put(self.valid[mutation.checkpoint], mutation.place, mutation.wrong), run / "a.ckpt")
            write_checkpoint(self.valid[mutation.checkpoint], run / "whole.ckpt")
        except trainkit.errors.CheckpointError:
            return ""  # it cannot be written, and so not be read
        code, told = in_child(lambda: use(mutation.use, run / "a.ckpt", place), place)
        kind = {0: "", 3: ""}.get(code, f"exit code {code}")
        return "; ".join(part for part in (kind, *told) if part)


def in_child(work: Callable[[], None], place: Path) -> tuple[int, list[str]]:
    """Do ``work`` in a process of its own; return its exit code, 3 for a named error, and what it did elsewhere."""
    output, reports = place / "output", place / "reports"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            torch.set_num_threads(1)
            warnings.simplefilter("ignore")
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LONGEST_S)
            os.chdir(place)
            watch(place, os.open(reports, os.O_WRONLY | os.O_CREAT))
            work()
            code = 0
        except TrainkitError as error:
            print(f"{type(error).__name__}: {error}")
            code = 3
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told = [json.loads(line) for line in reports.read_text().splitlines()] if reports.exists() else []
    if code not in (0, 3):
        told.append(" | ".join(output.read_text(errors="replace").strip().splitlines()[-1:]))
    return code, told


def watch(place: Path, reports: int) -> None:
    """Report whatever goes beyond ``place``."""
    known = set(sys.modules)
    folder = os.path.realpath(place)

    def is_outside(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        real = os.path.realpath(os.fsdecode(path))
        return not (real + os.sep).startswith(folder + os.sep) and not real.startswith(("/dev/", "/proc/"))

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        what = ""
        if event == "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            what = f"opens {arguments[0]}" if writes and is_outside(arguments[0]) else ""
        elif event in ("os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "shutil.rmtree"):
            what = f"{event} {arguments[0]}" if is_outside(arguments[0]) else ""
        elif event in ("os.rename", "os.link", "os.symlink"):
            what = f"{event} {arguments[:2]}" if any(map(is_outside, arguments[:2])) else ""
        elif event in ("socket.connect", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
            what = f"{event} {arguments}"
        elif event == "import" and str(arguments[0]).split(".")[0] in ("fsspec", "x") and arguments[0] not in known:
            what = f"imports {arguments[0]}"
        if what:
            os.write(reports, (json.dumps(what) + "\n").encode())

    sys.addaudithook(listen)


def use(how: str, path: Path, place: Path) -> None:
    """Use a checkpoint as users do; whatever is printed is looked at as well."""
    trainkit.seed_everything(1)
    if how in ("fit", "last"):
        make_trainer(place).fit(Module(), datamodule=Data(), ckpt_path=str(path) if how == "fit" else "last")
    elif how in ("validate", "best"):
        make_trainer(place).validate(Module(), datamodule=Data(), ckpt_path=str(path) if how == "validate" else "best")
    elif how == "load":
        Module.load_from_checkpoint(path)
    else:
        others = {"diff": [str(path.with_name("whole.ckpt"))], "export": ["out.safetensors"]}.get(how, [])
        arguments = [how, str(path), *others, *(["--tensors"] if how == "show" else [])]
        result = CliRunner().invoke(checkpoint_command, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if "\x1b" in result.output:
            raise AssertionError("prints an escape sequence from the file")
