"""Kill and signal ranks under torchrun at random moments, and compare with the run that was left alone.

``python -m tests.rank_kills --kills 20 --signals 50 --seed 0``
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from typing import get_args

from tests.rank_kills.forked import Forked
from tests.rank_kills.kills import Kind, Signalled, difference, run_disturbed, run_whole, start


def main() -> None:
    parser = argparse.ArgumentParser(description="kill and signal ranks at random moments, continue, and compare")
    parser.add_argument("--kills", type=int, default=20, help="how often SIGKILL is sent")
    parser.add_argument("--signals", type=int, default=50, help="how often SIGTERM is sent")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--torchrun", action="store_true", help="start torchrun, and not its agent in a forked process")
    parser.add_argument("--folder", type=Path, help="where to run, so that what differs can be looked at")
    arguments = parser.parse_args()
    begin = start if arguments.torchrun else Forked
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for workers in (0, 2):
            run_whole(folder / f"whole_{workers}", arguments.ranks, workers)
        for kinds, wanted in ((get_args(Kind), arguments.kills), (get_args(Signalled), arguments.signals)):
            done = runs = 0
            while done < wanted:
                workers, own = chance.choice([0, 0, 2]), folder / f"{kinds[0].split()[0]}_{runs}"
                outcome = run_disturbed(own, arguments.ranks, workers, kinds, wanted - done, chance, begin)
                wrong = outcome.wrong or list(filter(None, [difference(own, folder / f"whole_{workers}")]))
                done, runs = done + outcome.total, runs + 1
                told = ", ".join(f"{count} {kind} in {moment}" for (kind, moment), count in outcome.kills.items())
                print(f"run {runs}, {workers} workers: {told}: {'equal' if not wrong else 'WRONG'}", flush=True)
                if wrong:
                    raise SystemExit("\n".join(wrong))
            print(f"{done} times {kinds[0].split()[0]} in {runs} runs, all ended equal", flush=True)


if __name__ == "__main__":
    main()
