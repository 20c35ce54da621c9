"""The layout of a checkpoint as types, against which every file is checked once, when it is read.

What plugins, optimizers, schedulers, modules and data modules put in is theirs: who loads it looks at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, TypedDict

from torch import Tensor

from trainkit.storage.schema import AtLeast, Count, mismatch

FORMAT = 2
"""The number of this layout. It is raised when a key changes its meaning; `trainkit.checkpoint.migrate` reads files of
lower ones."""


class Rng(TypedDict):
    """The states of the random number generators of a process."""

    torch: Tensor
    random: tuple[int, list[int] | tuple[int, ...] | Tensor, float | None]
    numpy: tuple[str, Tensor | list[int], int, int, float]
    cuda: NotRequired[list[Tensor]]
    mps: NotRequired[Tensor]


Began = TypedDict(  # as a call, because "global" is a word of Python
    "Began",
    {
        "global": Rng,
        "own": list[Tensor],
        "first_draw": NotRequired[Rng | None],
        "own_first_draw": NotRequired[list[Tensor] | None],
    },
)
Began.__doc__ = "Random numbers with which a pass over a loader began: those of the process and of the loader."


BeganTogether = TypedDict("BeganTogether", {"global": Rng, "own": list[list[Tensor]]})
BeganTogether.__doc__ = "The same of several loaders that are gone through side by side."


class Cursor(TypedDict):
    """Where a pass over one loader stands. Each kind of loader has entries of its own beside these."""

    kind: str
    began: Began | None
    given: Count
    own: list[Tensor]
    has_ended: NotRequired[bool]
    begun: NotRequired[Count]
    drawn: NotRequired[Count]
    checksum: NotRequired[int]
    exhausted: NotRequired[bool]
    persistent: NotRequired[bool]
    samples: NotRequired[int]
    batch_size: NotRequired[int | None]
    workers: NotRequired[int]
    again: NotRequired[Count]
    content: NotRequired[int | None]


class Loader(TypedDict):
    """Where a fit stands in the batches of a phase, which may be made of several loaders."""

    cursors: list[Cursor]
    stream: Rng | None
    ended: NotRequired[bool]
    began: NotRequired[BeganTogether | None]


class Data(TypedDict):
    """Where a rank stands in its data."""

    train: Loader | None
    val: list[Loader]
    datamodule: dict[Any, Any]
    made: NotRequired[Rng | None]


class Running(TypedDict):
    """A value that is reduced over a phase."""

    reduce_fx: str
    total: Tensor | float
    weight: Tensor | float


class Options(TypedDict):
    """How something was logged."""

    prog_bar: bool
    logger: bool
    on_step: bool
    on_epoch: bool
    reduce_fx: str
    sync_dist: bool | None
    add_dataloader_idx: bool
    rank_zero_only: bool


LoaderCount = Annotated[int, AtLeast(0, most=10_000)]
"""How many loaders there are, for each of which a table is made."""


class Slot(TypedDict):
    """Something that was logged in a phase."""

    name: str
    place: int
    options: Options
    is_metric: bool
    loaders: list[Count]
    running: Running | None
    metric_path: str | None
    settled: NotRequired[Any]


class Aside(TypedDict):
    """What torchmetrics objects hold of loaders and phases whose turn it is not."""

    has_begun: bool
    around: dict[str, Any]
    before: dict[str, Any]


class PhaseLog(TypedDict):
    """What was logged in a phase that is not complete."""

    num_dataloaders: LoaderCount
    slots: list[Slot]
    step_values: NotRequired[dict[str, Tensor | float]]
    group: NotRequired[dict[str, Running]]
    version: NotRequired[int | None]
    is_reduced: NotRequired[bool]
    aside: NotRequired[Aside]


class Versions(TypedDict):
    """Which value of a metric is the newest."""

    numbers: dict[str, Count]
    newest: Count
    stepped: list[str]


class MetricState(TypedDict):
    """A torchmetrics object."""

    update_count: Count
    states: dict[str, Any]


class Metrics(TypedDict):
    """What a rank has logged."""

    callback: dict[str, Tensor | float]
    logged: dict[str, Tensor | float]
    progress_bar: dict[str, Tensor | float]
    step_row: NotRequired[dict[str, Tensor | float]]
    versions: NotRequired[Versions]
    phases: dict[str, PhaseLog]
    torchmetrics: dict[str, MetricState]


class Group(TypedDict):
    """The open accumulation group of a rank."""

    divisor: float
    weight: Tensor | float
    loss: NotRequired[Tensor | float | None]
    gradients: dict[str, Tensor]


class RankState(TypedDict):
    """What each rank has for itself."""

    metrics: Metrics
    group: Group | None
    data: Data
    rng: Rng
    began: NotRequired[Rng | None]


class Flags(TypedDict):
    """Which parameters are frozen and which submodules in eval mode."""

    frozen: list[str]
    in_eval: list[str]


class Stop(TypedDict):
    """Who has asked for an end, and the limits."""

    asked_by: str
    max_epochs: float | None
    max_steps: float
    max_time_s: float


class Due(TypedDict):
    """The hook that was running, with the plugins that it had yet to call."""

    name: str
    plugins: list[str]


class LoggedTo(TypedDict):
    """How much a logger had written."""

    logger: str
    folder: str | None
    written: Any
    mark: NotRequired[str]


class Signature(TypedDict):
    """What identifies a checkpoint of trainkit."""

    format: Count
    version: str
    module: NotRequired[str]
    run: NotRequired[str]
    mark: NotRequired[str]
    hparams_left_out: NotRequired[list[str]]
    hparams_types: NotRequired[dict[str, Any]]
    hparams_enums: NotRequired[dict[str, Any]]
    datamodule_hparams_left_out: NotRequired[list[str]]
    datamodule_hparams_types: NotRequired[dict[str, Any]]
    datamodule_hparams_enums: NotRequired[dict[str, Any]]
    logged: NotRequired[list[LoggedTo]]


class Own(Signature):
    """Below ``trainkit``: what trainkit alone needs in order to continue."""

    precision: dict[str, Any]
    shuffle_seed: NotRequired[int | None]
    flags: NotRequired[Flags]
    stop: NotRequired[Stop]
    made_with: NotRequired[dict[str, Any]]
    ranks: list[RankState]
    due: NotRequired[Due]


class Fit(TypedDict):
    """How far a fit was; see `trainkit.progress.Progress`."""

    epoch: Count
    batch: Count
    is_last: NotRequired[bool]
    epoch_started: NotRequired[bool]
    epoch_ended: NotRequired[bool]
    epoch_left: NotRequired[bool]
    validation_started: NotRequired[bool]
    validation_ending: NotRequired[bool]
    validated_batch: NotRequired[int]
    validation_loader: NotRequired[Count]
    validation_batch: NotRequired[Count]
    global_step: Count
    total_batches: NotRequired[Count]
    micro_batch_size: NotRequired[Count]
    ended: NotRequired[bool]
    elapsed_s: NotRequired[float]
    group_batches: NotRequired[Count]


class Loops(TypedDict):
    """The cursors of loops, of which there is one."""

    fit: Fit


class Weights(TypedDict):
    """A checkpoint that holds weights only."""

    epoch: Count
    global_step: Count
    state_dict: dict[str, Any]
    trainkit: Signature
    hyper_parameters: NotRequired[dict[str, Any]]
    hparams_name: NotRequired[str]
    datamodule_hyper_parameters: NotRequired[dict[str, Any]]
    datamodule_hparams_name: NotRequired[str]


class Whole(Weights):
    """A checkpoint from which a fit can continue."""

    current_model_state: NotRequired[dict[str, Tensor]]
    optimizer_states: list[dict[Any, Any]]
    lr_schedulers: list[dict[Any, Any]]
    loops: Loops
    callbacks: dict[str, Any]
    trainkit: Own  # type: ignore[misc]  # more than weights alone have


def misfit(checkpoint: Mapping[str, Any]) -> str:
    """Return what in a checkpoint is not as this layout has it; empty if all is, or if it is of another program."""
    own = checkpoint.get("trainkit")
    if isinstance(own, dict) and "format" in own and (wrong := mismatch(own["format"], Count, "trainkit.format")):
        return wrong
    if not isinstance(own, dict) or own.get("format") != FORMAT:
        weights = checkpoint.get("state_dict", {})
        return mismatch(weights, dict[str, Any], "state_dict")
    layout = Whole if "optimizer_states" in checkpoint or "loops" in checkpoint else Weights
    return mismatch(checkpoint, layout)
