"""The names of the files in a sharded checkpoint, which is a folder."""

from __future__ import annotations

import re

MANIFEST = "manifest.json"
STATE = "state.pt"
"""The file of all that is not sharded, in the form of a checkpoint that is one file."""
METADATA = ".metadata"
"""The file in which torch.distributed.checkpoint finds where the parts of tensors are. trainkit writes it for others,
and reads nothing of it: it is a pickle."""

SHARD = re.compile(r"__\d{1,9}_\d{1,9}\.distcp")
"""The names of files with parts of tensors, as torch.distributed.checkpoint gives them."""


def is_name_of_file(name: str) -> bool:
    """Return whether a sharded checkpoint may have a file of this name."""
    return name in (MANIFEST, STATE, METADATA) or SHARD.fullmatch(name) is not None
