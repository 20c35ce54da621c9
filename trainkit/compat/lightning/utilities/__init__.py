"""Lightning's ``utilities``."""

from trainkit.batch.transfer import move as move_data_to_device
from trainkit.compat.lightning.absent import absent_names
from trainkit.compat.lightning.utilities import (
    combined_loader,
    enums,
    exceptions,
    grads,
    memory,
    model_helpers,
    model_summary,
    parsing,
    rank_zero,
    seed,
    types,
    warnings,
)
from trainkit.compat.lightning.utilities.combined_loader import CombinedLoader
from trainkit.compat.lightning.utilities.enums import GradClipAlgorithmType
from trainkit.compat.lightning.utilities.grads import grad_norm
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
    "CombinedLoader",
    "GradClipAlgorithmType",
    "combined_loader",
    "disable_possible_user_warnings",
    "enums",
    "exceptions",
    "grad_norm",
    "grads",
    "memory",
    "model_helpers",
    "model_summary",
    "move_data_to_device",
    "parsing",
    "rank_zero",
    "rank_zero_deprecation",
    "rank_zero_info",
    "rank_zero_only",
    "rank_zero_warn",
    "seed",
    "types",
    "warnings",
]

__getattr__ = absent_names(
    __name__,
    {
        "find_shared_parameters": "nothing: shared parameters stay shared",
        "is_picklable": "pickle.dumps(value), and the exception it raises",
        "measure_flops": "torch.utils.flop_counter.FlopCounterMode, or ModelSummary(flops=True) of trainkit.callbacks",
        "set_shared_parameters": "nothing: shared parameters stay shared",
        "suggested_max_num_workers": "len(os.sched_getaffinity(0))",
    },
)
