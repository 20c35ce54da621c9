"""``python -m trainkit`` is the command ``trainkit``; so torchrun can start it."""

from __future__ import annotations

from trainkit.cli.main import main

if __name__ == "__main__":
    main()
