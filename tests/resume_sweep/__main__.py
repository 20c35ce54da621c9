"""Make many stops and print those that differ: ``python -m tests.resume_sweep --stops 2000 --seed 0``."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.resume_sweep.stops import Sweep


def main() -> None:
    parser = argparse.ArgumentParser(description="stop runs of programs drawn by chance, continue, and compare")
    parser.add_argument("--stops", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--only", type=int, nargs="*", help="these seeds, with the program of each")
    parser.add_argument("--keep", type=Path, help="keep all files in this folder")
    arguments = parser.parse_args()
    seeds = arguments.only or range(arguments.seed, arguments.seed + arguments.stops)
    hows: Counter[str] = Counter()
    failed, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        sweep = Sweep(arguments.keep or Path(temporary))
        for seed in seeds:
            result = sweep.stop(seed)
            hows[result.place.how] += 1
            if arguments.only:
                print(result.program)
            if result.what:
                failed += 1
                place = f"{result.place.how} in {result.place.hook} {result.place.count} ({result.place.stage})"
                print(f"{seed}: {place}: {result.what}", flush=True)
            elif arguments.keep is None:
                shutil.rmtree(sweep.folder / str(seed))
    print(f"{sum(hows.values())} stops {dict(hows)}, {failed} different, {time.monotonic() - started:.0f} s")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
