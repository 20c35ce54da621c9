"""``python -m trainkit`` is the command ``trainkit``; so torchrun can start it."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # `python -m` puts the current folder first. The command looks there last (trainkit/cli/configured.py says why), and
    # so it is here, ahead of the first import of another package.
    if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
        sys.path.append(sys.path.pop(0))

    from trainkit.cli.main import main

    main()
