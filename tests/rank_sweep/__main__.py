"""Run many programs on 2 and 3 ranks and print those that differ: ``python -m tests.rank_sweep --programs 60``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.rank_sweep.ranks import differences


def main() -> None:
    parser = argparse.ArgumentParser(description="compare programs drawn by chance on several ranks with one process")
    parser.add_argument("--programs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--ranks", type=int, nargs="*", default=[2, 3])
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.programs)
    found = 0
    for world_size in arguments.ranks:
        with tempfile.TemporaryDirectory() as folder:
            for program, what in differences(seeds, world_size, Path(folder), timeout_s=60 + 20 * len(seeds)):
                found += 1
                print(f"{world_size} ranks, {program}:\n{what}\n", flush=True)
    print(f"{len(seeds)} programs on {arguments.ranks} ranks, {found} different")
    raise SystemExit(found > 0)


if __name__ == "__main__":
    main()
