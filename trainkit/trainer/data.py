"""The data of one run: loaders are chosen, dealt to ranks and cut to their limits, when they are first needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from trainkit.batch.transfer import make_transfer
from trainkit.data.first_samples import count_items, with_first
from trainkit.data.fit_loaders import FitLoaders
from trainkit.data.loaders import LimitedLoader
from trainkit.data.meter import Meter
from trainkit.data.module import DataModule
from trainkit.data.overfit import in_fixed_order
from trainkit.data.resume.other_data import Resume
from trainkit.data.sampler import is_part_for_evaluation, own_part, shard
from trainkit.data.whole import with_all_samples
from trainkit.module import TrainModule
from trainkit.output import warn
from trainkit.progress import Progress
from trainkit.reflection import method_of, overrides
from trainkit.seed import isolate_rng, rng_state, set_rng_state
from trainkit.storage.owners import dict_of
from trainkit.strategies.base import Strategy
from trainkit.trainer.arguments import DataArguments
from trainkit.trainer.drawn_alike import drawn_alike, states_of_first
from trainkit.trainer.kept_batches import KeptBatches
from trainkit.trainer.loader_source import LoaderName, LoaderSource
from trainkit.trainer.same_data import share_generators
from trainkit.types import Batch, Stage

if TYPE_CHECKING:
    from trainkit.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Rank:
    """This process among those that share the data.

    Attributes:
        index: Its number, from 0.
        world_size: How many there are.
    """

    index: int = 0
    world_size: int = 1


class DataConnection:
    """Connects a run with its data.

    Args:
        module: May have methods that give loaders, and transfer hooks.
        datamodule: The data module that was passed, if any.
        given: The loaders that were passed.
        use: How much of them to use.
        rank: Which part of them.
        stage: What is run on them.

    Attributes:
        shuffle_seed: For the order of samples that are dealt to ranks; equal on all of them.
        batches: What the global batches of a fit are made of.
        rng_at_start: The states of all generators before anything was prepared, when the run began.
        meters: What measures how long training waits for its batches.

    Raises:
        DataError: If there is nothing to run on, or what there is cannot be used.
    """

    def __init__(
        self,
        module: TrainModule,
        datamodule: DataModule | None,
        given: Mapping[LoaderName, Any],
        use: DataArguments,
        rank: Rank,
        stage: Stage,
    ) -> None:
        self._source = LoaderSource(module, given, datamodule)
        self._module = module
        self._use = use
        self._rank = rank
        self._stage = stage
        self.shuffle_seed = 0
        self.batches = KeptBatches(rank.index, rank.world_size)
        self.rng_at_start: dict[str, Any] = {}
        self._rng_before_loaders: dict[str, Any] | None = None
        self._strategy: Strategy | None = None  # how ranks agree on what is drawn; None where there is one process
        self._first_states: dict[str, Any] | None = None  # of the generators of rank 0
        self.meters: list[Meter] = []
        self._fit_loaders: FitLoaders | None = None
        self._evaluation_loaders: dict[LoaderName, list[LimitedLoader]] = {}
        self._source.demand(LOADER_OF_STAGE[stage])

    @property
    def datamodule(self) -> DataModule | None:
        """The data module of the run."""
        return self._source.datamodule

    def prepare(self, trainer: Trainer) -> None:
        """Let the data be downloaded, by one process of each machine, and set up, by all."""
        for owner in (self.datamodule, self._module):
            if isinstance(owner, DataModule):
                owner.trainer = trainer
            prepare_data = getattr(owner, "prepare_data", None)
            if prepare_data is not None and trainer.strategy.local_rank == 0:
                prepare_data()
        # Nobody reads what is still being downloaded.
        trainer.strategy.barrier()
        if self.datamodule is not None:
            # A random split without a seed has to be the same split on every rank.
            with drawn_alike(trainer.strategy):
                method_of(self.datamodule, "setup", DataModule)(self._stage)

    def teardown(self) -> None:
        """End workers, and let the data module let go of what it set up."""
        if self._fit_loaders is not None:
            self._fit_loaders.close()
        for loader in chain.from_iterable(self._evaluation_loaders.values()):
            loader.close()
        if self.datamodule is not None:
            method_of(self.datamodule, "teardown", DataModule)(self._stage)

    def state_dict(self, progress: Progress, *, in_step: bool = False) -> dict[str, Any]:
        """Return where a fit stands in its data, and the state of the data module.

        Args:
            progress: What was done.
            in_step: Whether a training batch may be under way, which ``progress`` does not count yet.
        """
        loaders = self._fit_loaders
        consumed = [
            progress.validation_batch if progress.in_validation and index == progress.validation_loader else None
            for index in range(0 if loaders is None else len(loaders.val))
        ]
        return {
            "train": None if loaders is None else loaders.train.state_dict(progress.batch if in_step else None),
            "val": [loaders.val[index].state_dict(n) for index, n in enumerate(consumed)] if loaders else [],
            "datamodule": self.datamodule_state(),
            "made": self._rng_before_loaders,
        }

    def load_state_dict(
        self, state: dict[str, Any], *, mid_epoch: bool, validation_loader: int | None, resume: Resume = "exact"
    ) -> None:
        """Go on where ``state`` says.

        Args:
            state: What `state_dict` gave.
            mid_epoch: Whether batches of its training epoch are still to come.
            validation_loader: In the middle of which validation loader it stands; None outside a validation.
            resume: What to do in the middle of an epoch if the data are others.
        """
        # Which validation loaders there are may have changed on purpose; their place is given back only if it fits.
        if state["train"] is not None:
            self.fit_loaders.train.load_state_dict(state["train"], mid_epoch=mid_epoch, resume=resume)
        if len(state["val"]) == len(self.fit_loaders.val):
            for index, (loader, saved) in enumerate(zip(self.fit_loaders.val, state["val"], strict=True)):
                # Only the rest of a training epoch is left out: a validation is finished.
                loader.load_state_dict(
                    saved,
                    mid_epoch=index == validation_loader,
                    resume="exact" if resume == "exact" else "anyway",
                )

    def datamodule_state(self) -> dict[str, Any]:
        """Return what the data module keeps; nothing if there is none."""
        return {} if self.datamodule is None else dict_of(self.datamodule, may_be_none=True)

    def load_datamodule_state(self, state: dict[str, Any]) -> None:
        """Give the data module back what it kept, and draw for loaders what was drawn, before these are asked for."""
        self._rng_before_loaders = state.get("made")
        if self.datamodule is not None and state["datamodule"]:
            self.datamodule.load_state_dict(state["datamodule"])

    def transfer(self, device: torch.device, convert: Callable[[Batch], Batch] | None) -> Callable[[Batch, int], Batch]:
        """Return what brings a batch to the device."""
        return make_transfer(self._module, self.datamodule, device, convert)

    @property
    def fit_loaders(self) -> FitLoaders:
        """The loaders of a fit; made when first asked for, which ``configure_optimizers`` may do."""
        # Drawn from the random numbers of the first time in a run that is resumed, so that a random part of the samples
        # is the same part; what training draws next is not moved by it.
        if self._fit_loaders is None:
            with isolate_rng(self._rng_before_loaders is not None):
                if self._rng_before_loaders is not None:
                    set_rng_state(self._rng_before_loaders)
                with self._drawn_alike():
                    self._fit_loaders = self._make_fit_loaders()
        return self._fit_loaders

    def evaluation_loaders(self, name: LoaderName) -> list[LimitedLoader]:
        """The loaders to validate, test or predict with."""
        if name not in self._evaluation_loaders:
            with self._drawn_alike():
                self._evaluation_loaders[name] = self._make_evaluation_loaders(name)
        return self._evaluation_loaders[name]

    def num_batches(self, name: LoaderName) -> list[float]:
        """Batches of each loader; infinite where it is not known. Empty if this run has no such loaders."""
        loaders = self._limited(name)
        return [math.inf if loader.num_batches is None else loader.num_batches for loader in loaders]

    def loader(self, name: LoaderName) -> Any:
        """The loader as the run uses it, a list of them if there are several, None if there is none."""
        loaders = [loader.loader for loader in self._limited(name)]
        return loaders[0] if len(loaders) == 1 else loaders or None

    def _limited(self, name: LoaderName) -> list[LimitedLoader]:
        if self._stage is Stage.FIT and name in ("train", "val"):
            return [self.fit_loaders.train] if name == "train" else self.fit_loaders.val
        return self.evaluation_loaders(name) if name == LOADER_OF_STAGE[self._stage] else []

    def agree(self, strategy: Strategy) -> None:
        """Let all ranks draw alike for loaders that are made from now on. Every rank has to call this."""
        if strategy.is_distributed:
            self._strategy, self._first_states = strategy, states_of_first(strategy)

    def share_generators(self) -> None:
        """Let generators that order the samples draw alike on all ranks. Every rank has to call this."""
        if self._strategy is not None:
            loaders = chain.from_iterable(self._evaluation_loaders.values())
            fit = [] if self._fit_loaders is None else [self._fit_loaders.train, *self._fit_loaders.val]
            share_generators(self._strategy, [*fit, *loaders])

    def _drawn_alike(self) -> AbstractContextManager[None]:
        # Without an exchange: one rank alone may ask for a loader first, such as in order to print its length.
        return nullcontext() if self._strategy is None else drawn_alike(self._strategy, self._first_states)

    def _reload_fit_loaders(self) -> FitLoaders:
        """Make the loaders of a fit again. Every rank has to come here."""
        if self._strategy is not None:
            self.agree(self._strategy)
        with self._drawn_alike():
            loaders = self._make_fit_loaders()
        if self._strategy is not None:
            share_generators(self._strategy, [loaders.train, *loaders.val])
        return loaders

    def _make_fit_loaders(self) -> FitLoaders:
        self._rng_before_loaders = rng_state()  # loaders may be drawn at random, such as from a part of the samples
        use = self._use
        loader = self._source.train()
        if use.overfit_batches:
            loader = in_fixed_order(loader)
        loader = self._shared_for_training(loader)
        # Loaders that nothing would be done with are not asked for: making them may be expensive.
        val: list[LimitedLoader] = []
        if use.limit("val") and self._source.has("val"):
            if overrides(self._module, "validation_step", TrainModule):
                val = self._make_evaluation_loaders("val")
            else:
                warn(
                    f"there is validation data, but {type(self._module).__name__} has no validation_step, so nothing "
                    "is validated. Write one, or set limit_val_batches=0."
                )
        return FitLoaders(
            train=LimitedLoader(
                loader,
                use.limit("train"),
                "train_dataloader",
                "overfit_batches" if use.overfit_batches else "limit_train_batches",
                self.meters,
            ),
            val=val,
            sanity=[
                # A limit of its own on the same loaders, whose place in a validation it does not move.
                LimitedLoader(each.loader, use.sanity_limit(each.num_batches), each.name)
                for each in val
                if use.sanity_batches
            ],
            reload=self._reload_fit_loaders,
            reload_every_n_epochs=use.reload_dataloaders_every_n_epochs,
        )

    def _make_evaluation_loaders(self, name: LoaderName) -> list[LimitedLoader]:
        sources = self._source.evaluation(name)
        if name == "predict":
            sources = [with_all_samples(loader) for loader in sources]
        limit = self._use.limit(name)
        in_fit = name == "val" and self._stage is Stage.FIT
        counts = self.batches.validated(limit, len(sources)) if in_fit else None
        if counts is not None:
            sources = [with_first(*each) for each in zip(sources, counts, strict=True)]
            limit = 1.0
        # Predictions are put together again, in batches as one process makes them.
        loaders = [self._shared(loader, training=False, whole_batches=name == "predict") for loader in sources]
        made = []
        for loader in loaders:
            # As many predictions as in one process. In other evaluations a number of batches is that of each rank.
            of_all = name == "predict" and is_part_for_evaluation(loader)
            own = own_part(loader, limit) if of_all and isinstance(limit, int) else limit
            made.append(LimitedLoader(loader, own, f"{name}_dataloader", f"limit_{name}_batches"))
        if in_fit and counts is None and self._use.use_distributed_sampler:
            # Of rank 0, whose part is the largest; the others have no other limit.
            self.batches.note_validated(limit, [count_items(each, limit, self._rank.world_size) for each in made])
        return made

    def _shared_for_training(self, loader: Any) -> Any:
        if not self._use.use_distributed_sampler:
            self.batches.refuse("with use_distributed_sampler=False the batches of each rank are its own")
            return loader
        strategy = self._strategy
        dealt = self.batches.deal(
            loader, self.shuffle_seed, nullcontext if strategy is None else partial(drawn_alike, strategy)
        )
        return self._shared(loader, training=True) if dealt is None else dealt

    def _shared(self, loader: Any, *, training: bool, whole_batches: bool = False) -> Any:
        rank, world_size = self._rank.index, self._rank.world_size
        if world_size == 1 or not self._use.use_distributed_sampler:
            return loader
        seed = self.shuffle_seed
        return shard(loader, rank, world_size, training=training, seed=seed, whole_batches=whole_batches)


LOADER_OF_STAGE: dict[Stage, LoaderName] = {
    Stage.FIT: "train",
    Stage.VALIDATE: "val",
    Stage.TEST: "test",
    Stage.PREDICT: "predict",
}
