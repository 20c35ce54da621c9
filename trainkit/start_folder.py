"""The folder in which the program was started, as far as can be known: noted when trainkit is first imported.

A program may change the folder, as Hydra does, and paths on its command line are meant from where it began.
"""

from __future__ import annotations

import os
from contextlib import suppress

START_FOLDER = ""
"""The folder; empty if it was gone already."""

with suppress(OSError):
    START_FOLDER = os.getcwd()
