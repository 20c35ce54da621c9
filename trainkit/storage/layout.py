"""The layout of a checkpoint as types, against which every file is checked once, when it is read.

The keys are those of `Whole`, or of `Weights` where only weights are saved; below ``trainkit``, those of `Own`, or of
`Signature`. What plugins, optimizers, schedulers, modules and data modules put in is theirs: who loads it looks at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import torch
from torch import Tensor

from trainkit.errors import CheckpointError
from trainkit.hooks.due import FinishedHook
from trainkit.storage.contradictions import contradictions
from trainkit.storage.schema import AtLeast, Count, Like, Scalar, mismatch

FORMAT = 2
"""The number of this layout. It is raised when a key changes its meaning; `trainkit.checkpoint.migrate` reads files of
lower ones."""


Generator = Annotated[Tensor, Like(1, torch.uint8)]
"""The state of a random number generator of torch."""

Words = list[int] | tuple[int, ...] | Annotated[Tensor, Like(1, torch.int64)]
"""The state of a Mersenne twister."""


class Rng(TypedDict):
    """The states of the random number generators of a process."""

    torch: Generator
    random: tuple[Literal[2, 3], Words, float | None]
    numpy: tuple[Literal["MT19937"], Words, Count, Count, float]
    cuda: NotRequired[list[Generator]]
    mps: NotRequired[Generator]


Began = TypedDict(  # as a call, because "global" is a word of Python
    "Began",
    {
        "global": Rng,
        "own": list[Generator],
        "first_draw": NotRequired[Rng],
        "own_first_draw": NotRequired[list[Generator]],
        "first_batch": NotRequired[int],
    },
)
Began.__doc__ = "Random numbers with which a pass over a loader began: those of the process and of the loader."


BeganTogether = TypedDict("BeganTogether", {"global": Rng, "own": list[list[Generator]]})
BeganTogether.__doc__ = "The same of several loaders that are gone through side by side."


class Cursor(TypedDict):
    """Where a pass over one loader stands. Each kind of loader has entries of its own beside these."""

    kind: str
    began: Began | None
    given: Count
    own: list[Generator]
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


Reduction = Literal["mean", "sum", "min", "max"]
"""How the values of a phase become one."""


class Running(TypedDict):
    """A value that is reduced over a phase."""

    reduce_fx: Reduction
    total: Scalar
    weight: Scalar


class Options(TypedDict):
    """How something was logged."""

    prog_bar: bool
    logger: bool
    on_step: bool
    on_epoch: bool
    reduce_fx: Reduction
    sync_dist: bool | None
    add_dataloader_idx: bool
    rank_zero_only: bool


LoaderCount = Annotated[int, AtLeast(0, most=10_000)]
"""How many loaders there are, for each of which a table is made."""


class Slot(TypedDict):
    """Something that was logged in a phase."""

    name: str
    place: Annotated[int, AtLeast(-2)]
    options: Options
    is_metric: bool
    loaders: list[Count]
    running: Running | None
    metric_path: str | None
    settled: NotRequired[list[Scalar | None]]


class MetricState(TypedDict):
    """A torchmetrics object; its states are tensors, or lists of them."""

    update_count: Count
    states: dict[str, Tensor | list[Any]]


class Aside(TypedDict):
    """What torchmetrics objects hold of loaders and phases whose turn it is not."""

    has_begun: bool
    around: dict[str, MetricState]
    before: dict[str, MetricState]


class PhaseLog(TypedDict):
    """What was logged in a phase that is not complete."""

    num_dataloaders: LoaderCount
    slots: list[Slot]
    step_values: NotRequired[dict[str, Scalar]]
    group: NotRequired[dict[str, Running]]
    version: NotRequired[int | None]
    is_reduced: NotRequired[bool]
    aside: NotRequired[Aside]


class Versions(TypedDict):
    """Which value of a metric is the newest."""

    numbers: dict[str, Count]
    newest: Count
    stepped: list[str]


class Metrics(TypedDict):
    """What a rank has logged."""

    callback: dict[str, Scalar]
    logged: dict[str, Scalar]
    progress_bar: dict[str, Scalar]
    step_row: NotRequired[dict[str, Scalar]]
    versions: NotRequired[Versions]
    phases: dict[Literal["train", "sanity_check", "validate", "test", "predict"], PhaseLog]
    torchmetrics: dict[str, MetricState]


class Group(TypedDict):
    """The open accumulation group of a rank.

    Attributes:
        divisor: What its losses were divided by; 0 where they come with weights.
        weight: The sum of these.
        loss: The sum of its losses.
        gradients: What has been gathered.
        gradients_of: The rank whose gradients it goes on with, where all have the same.
    """

    divisor: float
    weight: Scalar
    loss: NotRequired[Scalar | None]
    gradients: dict[str, Tensor]
    gradients_of: NotRequired[Count]


class RankState(TypedDict):
    """What each rank has for itself.

    Attributes:
        metrics: What it has logged.
        group: Its share of an open accumulation group.
        data: Where it stands in its data.
        rng: The states of the generators now.
        began: Those before the run was first prepared, from which a random split of the data is drawn again.
        buffers: Those of the module that differ from rank 0's, which are in ``state_dict``.
    """

    metrics: Metrics
    group: Group | None
    data: Data
    rng: Rng
    began: NotRequired[Rng | None]
    buffers: NotRequired[dict[str, Tensor]]


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

    name: FinishedHook
    plugins: list[str]


class LoggedTo(TypedDict):
    """How much a logger had written."""

    logger: str
    folder: str | None
    written: Any
    mark: NotRequired[str]


class Description(TypedDict):
    """Of which type a hyperparameter was, and what is in it."""

    type: NotRequired[str]
    factory: NotRequired[str]
    items: NotRequired[dict[Any, Description]]


class Signature(TypedDict):
    """Below ``trainkit`` where only weights are saved: what identifies the checkpoint.

    Attributes:
        format: `FORMAT` when it was written.
        version: That of trainkit.
        module: The name of the module's class.
        run: The name of the run.
        mark: A random text that only files of the run hold.
        logged: How much each logger had written.
        hparams_left_out: Names of hyperparameters that could not be stored.
        hparams_types: Of which types those were that are stored.
        hparams_enums: Those that are members of enums, by class and name.
        datamodule_hparams_left_out: As above, of the data module; so the two that follow.
    """

    format: Count
    version: str
    module: NotRequired[str]
    run: NotRequired[str]
    mark: NotRequired[str]
    logged: NotRequired[list[LoggedTo]]
    hparams_left_out: NotRequired[list[str]]
    hparams_types: NotRequired[Description]
    hparams_enums: NotRequired[dict[str, list[str]]]
    datamodule_hparams_left_out: NotRequired[list[str]]
    datamodule_hparams_types: NotRequired[Description]
    datamodule_hparams_enums: NotRequired[dict[str, list[str]]]


_Ranks = Annotated[int, AtLeast(1, most=1_000_000)]
_BatchSize = Annotated[int, AtLeast(1, most=2**40)]


class Validated(TypedDict):
    """What was validated.

    Attributes:
        limit: ``limit_val_batches`` of the run.
        samples: How many samples of each loader that came to, on all ranks; None where nobody knows.
    """

    limit: float | int
    samples: list[Count | None]


class GlobalBatches(TypedDict):
    """What ranks train on at a time; see `trainkit.trainer.kept_batches`.

    Attributes:
        ranks: On how many ranks the run began.
        sizes: Samples in the batch of each of them, for each training loader; None where these do not tell.
        moved: Whether it was saved by another number of ranks.
        validated: What was validated, if that is to stay.
        first_ranks: Where several ranks compute a part together: the first rank of each part.
    """

    ranks: _Ranks
    sizes: list[_BatchSize | None]
    moved: NotRequired[bool]
    validated: NotRequired[Validated | None]
    first_ranks: NotRequired[list[Count]]


Origin = TypedDict("Origin", {"package": str, "version": str, "class": str})
Origin.__doc__ = """Whose state it is that a plugin has saved: an installed package, its version, and the class.

The first two are empty where the class is of a script or a folder of the user's own."""


class Own(Signature):
    """Below ``trainkit``: what trainkit alone needs in order to continue.

    Attributes:
        precision: The state of the precision, such as a scale of losses.
        shuffle_seed: From which orders of samples are drawn.
        flags: Which parameters are frozen and which submodules in eval mode.
        optimizers_in_eval: Whether the states are those of optimizers that were in eval mode, as ``state_dict`` is.
        stop: Who has asked for an end, and the limits.
        made_with: Plain values by names such as ``optimizer.lr``, ``scheduler.T_max`` and ``batch_size``: what the code
            gave when the run began, or what was taken of it since.
        ranks: What each rank has for itself.
        global_batch: What all of them train on at a time.
        due: The hook that was running, with the plugins that it had yet to call.
        origins: By the keys of ``callbacks``, whose states they are, as far as that is known.
    """

    precision: dict[str, Any]
    shuffle_seed: NotRequired[int | None]
    flags: NotRequired[Flags]
    optimizers_in_eval: NotRequired[bool]
    stop: NotRequired[Stop]
    made_with: NotRequired[dict[str, Any]]
    ranks: list[RankState]
    global_batch: NotRequired[GlobalBatches]
    due: NotRequired[Due]
    origins: NotRequired[dict[str, Origin]]


class Fit(TypedDict):
    """How far a fit was; see `trainkit.progress.Progress`.

    Attributes:
        elapsed_s: The seconds that it has taken.
        group_batches: The batches of an open accumulation group.
    """

    epoch: Count
    batch: Count
    is_last: NotRequired[bool]
    epoch_started: NotRequired[bool]
    epoch_ended: NotRequired[bool]
    epoch_left: NotRequired[bool]
    validation_started: NotRequired[bool]
    validation_ending: NotRequired[bool]
    validated_batch: NotRequired[Annotated[int, AtLeast(-1)]]
    validation_loader: NotRequired[Count]
    validation_batch: NotRequired[Count]
    global_step: Count
    total_batches: NotRequired[Count]
    samples: NotRequired[Count]
    validated_at_step: NotRequired[Count]
    validated_at_batches: NotRequired[Count]
    validated_at_samples: NotRequired[Count]
    validated_at_epochs: NotRequired[Count]
    micro_batch_size: NotRequired[Count]
    ended: NotRequired[bool]
    elapsed_s: NotRequired[float]
    group_batches: NotRequired[Count]


class Loops(TypedDict):
    """The cursors of loops, of which there is one: ``fit``, from which the run continues."""

    fit: Fit


class Foreign(TypedDict, total=False):
    """What is read of the checkpoints of other programs, and of other formats."""

    state_dict: dict[str, Any]
    hyper_parameters: dict[str, Any]
    datamodule_hyper_parameters: dict[str, Any]


class Weights(TypedDict):
    """A checkpoint that holds weights only.

    Beside these keys it has ``pytorch-lightning_version``, without which Lightning does not load the weights.

    Attributes:
        epoch: How many epochs are over, their last hooks called: the index of the one that is running, or is next.
        global_step: Optimizer updates so far.
        state_dict: The module's parameters and buffers; an average, where one is kept to be evaluated.
        trainkit: What trainkit alone reads.
        hyper_parameters: What ``save_hyperparameters`` collected, as far as it can be stored safely.
        hparams_name: The constructor argument that takes them all, or ``"kwargs"``.
        datamodule_hyper_parameters: Those of the data module.
        datamodule_hparams_name: The same of it.
    """

    epoch: Count
    global_step: Count
    state_dict: dict[str, Any]
    trainkit: Signature
    hyper_parameters: NotRequired[dict[str, Any]]
    hparams_name: NotRequired[str]
    datamodule_hyper_parameters: NotRequired[dict[str, Any]]
    datamodule_hparams_name: NotRequired[str]


class Whole(Weights):
    """A checkpoint from which a fit can continue.

    Attributes:
        current_model_state: The newest weights, where ``state_dict`` is an average (`trainkit.checkpoint.averages`), or
            what an optimizer gives for evaluation (`trainkit.module.optimizer_modes`).
        averaging_state: How many weights that is an average of, under Lightning's name for it.
        optimizer_states: One ``state_dict`` for each optimizer.
        lr_schedulers: One ``state_dict`` for each scheduler.
        loops: How far the run was.
        callbacks: The state of each plugin that has one, by its state key; see `trainkit.checkpoint.state.keyed`.
    """

    current_model_state: NotRequired[dict[str, Tensor]]
    averaging_state: NotRequired[dict[str, Any]]
    optimizer_states: list[dict[Any, Any]]
    lr_schedulers: list[dict[Any, Any]]
    loops: Loops
    callbacks: dict[str, Any]
    trainkit: Own  # type: ignore[misc]  # more than weights alone have


def misfit(checkpoint: Mapping[str, Any]) -> str:
    """Return what in a checkpoint is not as this layout has it; empty if all is.

    Of another program, and of other formats, little is known.
    """
    own = checkpoint.get("trainkit", {})
    wrong = mismatch(own, dict[str, Any], "trainkit") or mismatch(own.get("format", FORMAT), Count, "trainkit.format")
    if wrong or own.get("format") != FORMAT:
        return wrong or mismatch(checkpoint, Foreign)
    if "optimizer_states" not in checkpoint and "loops" not in checkpoint:
        return mismatch(checkpoint, Weights)
    return mismatch(checkpoint, Whole) or next(contradictions(checkpoint), "")


def check_layout(checkpoint: Mapping[str, Any]) -> None:
    """Raise an error where a checkpoint that is to be saved would be refused by every load, which is too late.

    Raises:
        CheckpointError: Names the place, and what is wrong there.
    """
    if wrong := misfit(checkpoint):
        raise CheckpointError(
            f"this checkpoint could be written and not be read: {wrong}. Look at what each state_dict and "
            "on_save_checkpoint puts in."
        )
