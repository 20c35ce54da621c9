"""Run many programs on 2 and 3 ranks and print those that differ: ``python -m tests.rank_sweep --programs 60``."""

from __future__ import annotations

import argparse
import tempfile
from itertools import product
from pathlib import Path

from tests.rank_sweep.ranks import differences


def main() -> None:
    parser = argparse.ArgumentParser(description="compare programs drawn by chance on several ranks with one process")
    parser.add_argument("--programs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--ranks", type=int, nargs="*", default=[2, 3])
    parser.add_argument("--strategies", nargs="*", default=["ddp"], choices=["ddp", "fsdp", "fsdp-root", "hsdp"])
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.programs)
    found = 0
    for strategy, world_size in product(arguments.strategies, arguments.ranks):
        with tempfile.TemporaryDirectory() as folder:
            limit_s = 60 + 20 * len(seeds)
            for program, what in differences(seeds, world_size, Path(folder), limit_s, strategy):
                found += 1
                print(f"{strategy}, {world_size} ranks, {program}:\n{what}\n", flush=True)
    print(f"{len(seeds)} programs with {arguments.strategies} on {arguments.ranks} ranks, {found} different")
    raise SystemExit(found > 0)


if __name__ == "__main__":
    main()
