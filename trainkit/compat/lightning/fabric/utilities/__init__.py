"""Lightning's ``fabric.utilities``, as far as programs for its Trainer use them."""

from trainkit.compat.lightning.fabric.utilities import apply_func, data, exceptions, rank_zero, seed, types, warnings
from trainkit.compat.lightning.fabric.utilities.apply_func import move_data_to_device
from trainkit.compat.lightning.utilities.parsing import AttributeDict
from trainkit.compat.lightning.utilities.rank_zero import (
    rank_zero_deprecation,
    rank_zero_info,
    rank_zero_only,
    rank_zero_warn,
)
from trainkit.compat.lightning.utilities.warnings import disable_possible_user_warnings

__all__ = [
    "AttributeDict",
    "apply_func",
    "data",
    "disable_possible_user_warnings",
    "exceptions",
    "move_data_to_device",
    "rank_zero",
    "rank_zero_deprecation",
    "rank_zero_info",
    "rank_zero_only",
    "rank_zero_warn",
    "seed",
    "types",
    "warnings",
]
