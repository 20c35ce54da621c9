"""Compare many draws and print those that differ: ``python -m tests.unusual_modules --draws 1000``."""

from __future__ import annotations

import argparse

from tests.unusual_modules.compare import differences
from tests.unusual_modules.draws import draw


def main() -> None:
    parser = argparse.ArgumentParser(description="train unusual modules, drawn by chance, and compare")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--only", type=int, nargs="*", help="these seeds, with the draw of each, errors as they are")
    arguments = parser.parse_args()
    failed = 0
    for seed in arguments.only or range(arguments.seed, arguments.seed + arguments.draws):
        if arguments.only:
            print(draw(seed), differences(seed), sep="\n")
            continue
        try:
            found = differences(seed)
        except Exception as error:
            found = [repr(error)]
        if found:
            failed += 1
            print(f"{seed}: {'; '.join(found)[:300]}\n    {draw(seed)}", flush=True)
    print(f"{failed} draws differ")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
