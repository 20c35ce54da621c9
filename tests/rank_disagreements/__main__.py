"""Let one rank do something else, at places drawn by chance: ``python -m tests.rank_disagreements --draws 200``."""

from __future__ import annotations

import argparse
import collections
import shutil
import tempfile
from pathlib import Path

from tests.rank_disagreements.check import check
from tests.rank_disagreements.draws import Draw


def main() -> None:
    parser = argparse.ArgumentParser(description="one rank does another thing than the others")
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--only", type=int, nargs="*", help="these seeds")
    parser.add_argument("--at-once", type=int, default=3, help="how many draws run beside each other")
    parser.add_argument("--folder", type=Path, help="where to keep what the ranks have printed")
    arguments = parser.parse_args()
    seeds = arguments.only or range(arguments.seed, arguments.seed + arguments.draws)
    counts: collections.Counter[str] = collections.Counter()
    longest_s = 0.0
    # Not a TemporaryDirectory: each rank, which is forked and ends as Python does, would remove it.
    folder = arguments.folder or Path(tempfile.mkdtemp())
    try:
        for outcome, wrong in check([Draw.draw(seed) for seed in seeds], folder, at_once=arguments.at_once):
            codes = [each.code for each in outcome.ranks]
            went_on = all(code == 0 for code in codes)
            counts["wrong" if wrong else "not come to" if not outcome.fired else "went on" if went_on else "told"] += 1
            longest_s = max(longest_s, outcome.took_s)
            if wrong:
                print(f"WRONG {outcome.draw}: {codes} after {outcome.took_s:.1f} s: {wrong}", flush=True)
                for rank, each in enumerate(outcome.ranks):
                    print("\n".join(f"    {rank}| {line}" for line in each.text.splitlines()[-14:]), flush=True)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(seeds)} draws: {dict(counts)}; the longest took {longest_s:.1f} s")
    raise SystemExit(counts["wrong"] > 0)


if __name__ == "__main__":
    main()
