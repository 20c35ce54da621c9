"""Stop many programs and go on with other numbers of ranks; print those that differ from the undisturbed run.

``python -m tests.elastic_sweep --programs 60 --seed 0``
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.elastic_sweep.programs import Program
from tests.elastic_sweep.ranks import differences


def main() -> None:
    parser = argparse.ArgumentParser(description="continue programs drawn by chance on other numbers of ranks")
    parser.add_argument("--programs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, nargs="*", help="exactly these")
    arguments = parser.parse_args()
    seeds = arguments.seeds or range(arguments.seed, arguments.seed + arguments.programs)
    programs = [Program.draw(seed) for seed in seeds]
    found = 0
    with tempfile.TemporaryDirectory() as folder:
        for program, what in differences(programs, Path(folder), timeout_s=120 + 10 * len(programs)):
            found += 1
            print(f"{program}:\n{what}\n", flush=True)
    print(f"{len(programs)} programs, {found} different")
    raise SystemExit(found > 0)


if __name__ == "__main__":
    main()
