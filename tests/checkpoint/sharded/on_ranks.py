"""What saving and loading does on two ranks, one case after the other: ``python on_ranks.py FOLDER``.

Each rank writes what it has found to ``FOLDER/found-RANK.json``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from tests.checkpoint.sharded.fitting import GLOBAL_BATCH, Net, data, state_of
from trainkit import Callback, Trainer
from trainkit.callbacks import EMAWeightAveraging, ModelCheckpoint
from trainkit.checkpoint.diff import differences
from trainkit.errors import TrainkitError
from trainkit.storage.files import read_checkpoint
from trainkit.strategies.fsdp.strategy import FSDP

RANK = int(os.environ["RANK"])
FOUND: dict[str, Any] = {}


def fit(folder: Path, module: Net, *callbacks: Any, ckpt_path: Any = None, **arguments: Any) -> Trainer:
    trainer = Trainer(
        **{"max_epochs": 1, "enable_checkpointing": False, **arguments},
        accelerator="cpu",
        strategy=FSDP(checkpoint="sharded"),
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    loader = DataLoader(data(), batch_size=GLOBAL_BATCH // trainer.world_size, shuffle=True)
    trainer.fit(module, loader, ckpt_path=ckpt_path)
    return trainer


def error_of(work: Callable[[], Any]) -> str:
    """Return the error that ``work`` ends with, with its notes."""
    try:
        with warnings.catch_warnings(record=True):
            work()
    except Exception as error:
        return " ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    return ""


def case(function: Callable[[Path], Any]) -> Callable[[Path], Any]:
    CASES.append(function)
    return function


CASES: list[Callable[[Path], Any]] = []


@case
def renamed_in_a_hook(folder: Path) -> Any:
    """A module with other names, and one with a value computed in the hook."""
    module = Net()
    trainer = fit(folder, module)
    trainer.save_checkpoint(folder / "named.ckpt")
    expected = state_of(trainer, module)["weights"]

    class Renamed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.layers = self.blocks
            del self.blocks
            self.more = torch.nn.Linear(3, 2)

        @property
        def blocks(self) -> Any:
            return self.layers

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 0 * self.more.weight.sum() + 0 * self.more.bias.sum()

        def on_load_checkpoint(self, checkpoint: Any) -> None:
            weights = checkpoint["state_dict"]
            for name in [*weights]:
                weights[name.replace("blocks", "layers")] = weights.pop(name)
            weights["scale"] = weights["scale"].read() * 2
            weights["more.weight"] = weights.pop("layers.2.weight").read()[:2, :3]
            weights["more.bias"] = torch.zeros(2)
            weights["layers.2.weight"] = torch.zeros(3, 7)

    renamed = Renamed()
    evaluated = Trainer(
        accelerator="cpu", strategy=FSDP(), logger=False, enable_progress_bar=False, default_root_dir=folder
    )
    evaluated.test(renamed, DataLoader(data(), 6), ckpt_path=folder / "named.ckpt", verbose=False)
    from trainkit.module.shards import whole

    found = {name: whole(each.detach()).cpu() for name, each in renamed.state_dict().items()}
    return [
        bool(torch.equal(found["layers.0.weight"], expected["blocks.0.weight"])),
        bool(torch.equal(found["scale"], expected["scale"] * 2)),
        bool(torch.equal(found["more.weight"], expected["blocks.2.weight"][:2, :3])),
        bool(found["layers.2.weight"].eq(0).all()),
    ]


@case
def computed_with_in_a_hook(folder: Path) -> Any:
    class Computes(Net):
        def on_load_checkpoint(self, checkpoint: Any) -> None:
            checkpoint["state_dict"]["scale"] *= 2

    fit(folder, Net()).save_checkpoint(folder / "a.ckpt")
    return error_of(lambda: fit(folder, Computes(), ckpt_path=folder / "a.ckpt", max_epochs=2))


@case
def averaged_and_accumulating(folder: Path) -> Any:
    """An average of weights, and gradients of an open group, are sharded too, and come back."""

    class Saves(Callback):
        def on_train_batch_end(self, trainer: Trainer, batch_idx: int) -> None:
            if trainer.current_epoch == 1 and batch_idx == 2:
                trainer.save_checkpoint(folder / "open.ckpt")

    class Leaves(Callback):
        def on_train_batch_start(self, trainer: Trainer, batch_idx: int) -> None:
            begun.append((trainer.current_epoch, batch_idx))

    begun: list[Any] = []
    modules = Net(), Net()
    options: dict[str, Any] = {"accumulate_grad_batches": 2, "max_epochs": 2}
    ends = []
    for module, path in zip(modules, (None, folder / "open.ckpt"), strict=True):
        ema = EMAWeightAveraging(decay=0.5)
        begun.clear()
        trainer = fit(folder, module, ema, Saves() if path is None else Leaves(), ckpt_path=path, **options)
        ends.append(state_of(trainer, module))
    keys = read_checkpoint(folder / "open.ckpt", whole=False)["trainkit"]["ranks"][0]["group"]["gradients"]
    return {
        "differ": [*map(str, differences(*ends))],
        "begun": begun[0],
        "gradients": sorted({type(each).__name__ for each in keys.values()}),
    }


@case
def overwritten_damaged_and_taken_by_last(folder: Path) -> Any:
    kept = ModelCheckpoint(folder / "kept", save_top_k=-1, save_last=True)
    fit(folder, Net(), kept, max_epochs=3, enable_checkpointing=True)
    names = sorted(path.name for path in (folder / "kept").iterdir())
    if RANK == 0:
        for name in ("last.ckpt", "epoch=2-step=15.ckpt"):
            shard = folder / "kept" / name / "__1_0.distcp"
            data = bytearray(shard.read_bytes())
            data[700] ^= 1
            shard.unlink()  # another name of the file is in a folder beside this one
            shard.write_bytes(data)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer = fit(folder, Net(), max_epochs=3, ckpt_path="last")
    named = error_of(lambda: fit(folder, Net(), max_epochs=3, ckpt_path=folder / "kept" / "last.ckpt"))
    return {
        "names": names,
        "from": Path(trainer.ckpt_path or "").name,
        "warned": [str(each.message) for each in told if "does not match its digest" in str(each.message)],
        "named": named,
    }


@case
def a_disk_is_full_on_one_rank(folder: Path) -> Any:
    module = Net()
    trainer = fit(folder, module)
    trainer.save_checkpoint(folder / "a.ckpt")
    before = {path.name: path.read_bytes() for path in sorted((folder / "a.ckpt").iterdir())}
    trainer.strategy.barrier()
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    if RANK == 1:
        os.fsync = full
    first = error_of(lambda: trainer.save_checkpoint(folder / "a.ckpt"))
    os.fsync = real
    trainer.strategy.barrier()
    after = {path.name: path.read_bytes() for path in sorted((folder / "a.ckpt").iterdir())}
    names = sorted(os.listdir(folder))
    trainer.strategy.barrier()
    trainer.save_checkpoint(folder / "a.ckpt")
    return {"error": first, "untouched": before == after, "names": names}


@case
def ranks_have_other_disks(folder: Path) -> Any:
    from trainkit.storage.sharded import writer

    writer._SEEN_WITHIN_S = 0.2
    trainer = fit(folder, Net())
    real = Path.exists
    if RANK == 1:
        Path.exists = lambda self, **_: False if self.name == "state.pt" else real(self)
    try:
        return {"error": error_of(lambda: trainer.save_checkpoint(folder / "a.ckpt")), "names": os.listdir(folder)}
    finally:
        Path.exists = real


@case
def urls_are_refused(folder: Path) -> Any:
    return error_of(lambda: fit(folder, Net()).save_checkpoint("memory://x/a.ckpt"))


@case
def a_folder_of_the_user_is_left_alone(folder: Path) -> Any:
    trainer = fit(folder, Net())
    if RANK == 0:
        (folder / "a.ckpt").mkdir()
        (folder / "a.ckpt" / "notes").write_text("mine")
    trainer.strategy.barrier()
    error = error_of(lambda: trainer.save_checkpoint(folder / "a.ckpt"))
    return {"error": error, "notes": (folder / "a.ckpt" / "notes").read_text(), "names": os.listdir(folder)}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    base = Path(sys.argv[1])
    chosen = sys.argv[2:]
    for each in CASES:
        if chosen and each.__name__ not in chosen:
            continue
        place = base / each.__name__
        if RANK == 0:
            shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
        try:
            FOUND[each.__name__] = each(place)
        except TrainkitError as error:
            FOUND[each.__name__] = f"ended in {type(error).__name__}: {error}"
    (base / f"found-{RANK}.json").write_text(json.dumps(FOUND))
