"""Try many wrong checkpoints and print what is met badly: ``python -m tests.checkpoint_fuzz --mutations 10000``."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from tests.checkpoint_fuzz.folders import FolderFuzz
from tests.checkpoint_fuzz.mutations import Fuzz


def main() -> None:
    parser = argparse.ArgumentParser(description="use checkpoints in which one value is wrong")
    parser.add_argument("--mutations", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--only", type=int, nargs="*", help="these seeds")
    parser.add_argument("--folders", action="store_true", help="spoil sharded checkpoints instead")
    parser.add_argument("--keep", type=Path, help="keep all files in this folder")
    arguments = parser.parse_args()
    seeds = arguments.only or range(arguments.seed, arguments.seed + arguments.mutations)
    failed, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.folders:
            folders = FolderFuzz(Path(temporary))
            wrong = [what for seed in seeds if (what := folders.try_one(seed))]
            raise SystemExit("\n".join(wrong))
        fuzz = Fuzz(arguments.keep or Path(temporary))
        for seed in seeds:
            mutation = fuzz.draw(seed)
            what = fuzz.try_one(mutation)
            if what:
                failed += 1
                print(f"{mutation}: {what}", flush=True)
            if arguments.keep is None:
                shutil.rmtree(fuzz.folder / str(seed))
    print(f"{len(seeds)} mutations, {failed} met badly, {time.monotonic() - started:.0f} s")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
