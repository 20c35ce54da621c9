"""The Trainer: chooses the parts of a run from its arguments and calls one loop. It has no loop of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any, Literal, Never, get_args

from torch import Tensor

from trainkit.checkpoint.background import BackgroundJob
from trainkit.checks import Duration, file_path, one_of, takes_numpy
from trainkit.data.module import DataModule
from trainkit.data.resume.other_data import Resume
from trainkit.errors import ConfigError, NotAttachedError, UnsupportedError
from trainkit.hooks.manager import HookManager
from trainkit.loggers.logger import Logger
from trainkit.loops import evaluate as evaluation
from trainkit.loops import fit as training
from trainkit.loops.unequal_ranks import of_own_share
from trainkit.metrics.collector import MetricCollector
from trainkit.metrics.scalars import as_step
from trainkit.module import TrainModule
from trainkit.output import print_as_is
from trainkit.plugins.resolve import resolve_precision, resolve_strategy
from trainkit.precision.base import Precision
from trainkit.profilers.base import Profiler
from trainkit.progress import Progress
from trainkit.storage.files import Content, write_checkpoint
from trainkit.strategies.base import Strategy
from trainkit.strategies.ranks.data_ranks import DataRanks
from trainkit.trainer.arguments import (
    DataArguments,
    OptimizationArguments,
    OutputArguments,
    StopArguments,
    TrainerArguments,
    given,
    refuse_beside_barebones,
)
from trainkit.trainer.call import Call
from trainkit.trainer.check_module import check_module
from trainkit.trainer.data import LOADER_OF_STAGE
from trainkit.trainer.default_plugins import (
    follow_lists,
    make_callbacks,
    make_loggers,
    make_profilers,
    refuse_unknown_arguments,
    register,
)
from trainkit.trainer.default_weights import best_of_the_last_fit
from trainkit.trainer.explain.explanation import Explanation
from trainkit.trainer.explain.look import look_at
from trainkit.trainer.explain.rehearsal import rehearsed, shown
from trainkit.trainer.loader_source import LoaderName
from trainkit.trainer.made_with import refuse_to_take
from trainkit.trainer.properties import TrainerProperties
from trainkit.trainer.saving import dump_newest, write_newest
from trainkit.trainer.settings import given_settings
from trainkit.trainer.tables import print_results
from trainkit.types import Phase, Stage


class Trainer(TrainerProperties):
    """Runs a `TrainModule` on data: ``fit``, ``validate``, ``test``, ``predict``.

    All arguments are keywords with the names and meanings that Lightning gave them.

    Args:
        accelerator: ``auto``, ``cpu``, ``gpu``, ``cuda`` or ``mps``.
        strategy: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ``dp``, ``ddp``, a plugin's name, or a `Strategy`.
        devices: How many devices, which ones, -1 for all, or ``auto``. Each of several has a process of its own: if
            nobody has started these, the Trainer starts the program anew in all of them, waits, and ends like them
            (``docs/how-to/many-machines.md``).
        num_nodes: How many machines.
        precision: ``32-true``, ``16-mixed``, ``bf16-mixed``, ``16-true``, ``bf16-true``, ``64-true``.
        logger: True for TensorBoard and CSV files in one version folder, False for none, or one or several loggers, or
            names of them.
        callbacks: Objects with methods named after hooks, or names of plugins.
        max_epochs: Epochs to train; -1 for no limit. None is 1000 unless ``max_steps`` or ``max_time`` is set.
        min_epochs: Epochs before which ``should_stop`` is not honoured.
        max_steps: Optimizer updates to make; -1 for no limit.
        min_steps: Updates before which ``should_stop`` is not honoured.
        max_time: Time to train: ``"2h"``, ``"DD:HH:MM:SS"``, a ``timedelta``, or its arguments as a dict.
        limit_train_batches: How many batches of an epoch to use: a number (int) or a share (float).
        limit_val_batches: The same for validation.
        limit_test_batches: The same for testing.
        limit_predict_batches: The same for prediction.
        overfit_batches: Train and validate on this many (or this share of) the same batches, unshuffled.
        fast_dev_run: Try everything with this many batches (True is 1), without loggers and checkpoints.
        val_check_interval: Validate every so many batches (int), share of an epoch (float), or time; or by a number of
            ``"500 steps"``, ``"250 batches"``, ``"10k samples"`` or ``"2 epochs"`` of the whole run
            (``docs/how-to/intervals.md``).
        check_val_every_n_epoch: Validate in every n-th epoch; None counts batches across epochs. Not beside a unit.
        num_sanity_val_steps: Validation batches to try ahead of training; -1 for all.
        log_every_n_steps: Updates from one row of metrics to the next, or a text in another unit, as above.
        enable_checkpointing: Whether to save checkpoints: a `ModelCheckpoint` is added if none is given.
        keep_last: Whether the newest state of the run is kept as ``last.ckpt`` in its folder
            (``docs/explanation/checkpoints.md``). False writes it only when a signal interrupts the run.
        enable_progress_bar: Whether to show a progress bar.
        enable_model_summary: Whether to print a summary of the module.
        print_schedule: Whether to draw the learning rates of a fit before it begins
            (``docs/how-to/optimizers.md``).
        accumulate_grad_batches: Batches per update, or a dict from the epoch to the number that holds from then on.
            ``"auto"`` is one, computed in parts if memory runs out (``docs/how-to/large-batches.md``).
        gradient_clip_val: Bound for gradients; None does not clip.
        gradient_clip_algorithm: ``norm`` (default) bounds the norm of all gradients together, ``value`` each value.
        on_nonfinite_loss: ``warn`` tells once when a logged value is NaN or infinite, where it is read anyway; ``stop``
            looks at the loss of each batch, which waits for the device, and raises `NonFiniteLossError` ahead of
            backward, so that the weights stay; ``ignore`` does neither.
        deterministic: Whether torch must use deterministic algorithms; ``"warn"`` warns where there is none.
        benchmark: ``torch.backends.cudnn.benchmark``; None leaves it.
        inference_mode: Whether validate, test and predict run under ``torch.inference_mode`` rather than ``no_grad``.
        use_distributed_sampler: Whether ranks share the data between them.
        profiler: ``"simple"`` tells where the time went, by share, plugin and hook; ``"torch"`` traces a few steps;
            or a plugin's name, or a `Profiler` (``docs/how-to/profiling.md``).
        detect_anomaly: Whether autograd looks for the operation that made a NaN (slow).
        barebones: Whether to leave out everything optional, to measure the bare loop.
        compile: True compiles the layers, ``"step"`` a whole training step into one graph, ``"cuda-graph"`` records one
            without a compiler (``docs/how-to/compile.md``).
        plugins: ``{"timing": True}`` is ``profiler="simple"``, also beside another; ``{"disable": ["name"]}`` leaves
            some out.
        sync_batchnorm: Whether BatchNorm layers share their statistics between ranks.
        reload_dataloaders_every_n_epochs: Epochs after which loaders are made anew; 0 for never.
        default_root_dir: Where to write; None is the current directory.

    Attributes:
        settings: What loggers write beside the hyperparameters of the module when a fit starts, by names such as
            ``trainer/max_epochs``: the arguments that were given, but for those that only say what is shown and
            written, or are objects; with a configuration those of the data too. More may be added.

    Raises:
        ConfigError: If an argument is not usable, or contradicts another. Nothing has been started then.
    """

    @takes_numpy
    def __init__(
        self,
        *,
        accelerator: str = "auto",
        strategy: str | Strategy = "auto",
        devices: int | str | Sequence[int] = "auto",
        num_nodes: int = 1,
        precision: str | int | Precision | None = None,
        logger: Logger | str | Sequence[Logger | str] | bool | None = None,
        callbacks: object | Sequence[object] | None = None,
        max_epochs: int | None = None,
        min_epochs: int | None = None,
        max_steps: int = -1,
        min_steps: int | None = None,
        max_time: Duration | None = None,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        overfit_batches: int | float = 0.0,
        fast_dev_run: int | bool = False,
        val_check_interval: int | float | Duration | None = None,
        check_val_every_n_epoch: int | None = 1,
        num_sanity_val_steps: int | None = None,
        log_every_n_steps: int | str | None = None,
        enable_checkpointing: bool | None = None,
        keep_last: bool = True,
        enable_progress_bar: bool | None = None,
        enable_model_summary: bool | None = None,
        print_schedule: bool = False,
        accumulate_grad_batches: int | Mapping[int, int] | Literal["auto"] = 1,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: Literal["norm", "value"] | None = None,
        on_nonfinite_loss: Literal["warn", "stop", "ignore"] = "warn",
        deterministic: bool | Literal["warn"] | None = None,
        benchmark: bool | None = None,
        inference_mode: bool = True,
        use_distributed_sampler: bool = True,
        profiler: str | Profiler | None = None,
        detect_anomaly: bool = False,
        barebones: bool = False,
        compile: bool | Literal["step", "cuda-graph"] = False,
        plugins: Mapping[str, Any] | None = None,
        sync_batchnorm: bool = False,
        reload_dataloaders_every_n_epochs: int = 0,
        default_root_dir: str | os.PathLike[str] | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown_arguments(Trainer, unknown)
        self.settings = given_settings(Trainer, locals())
        if barebones:
            refuse_beside_barebones(
                logger=logger,
                enable_checkpointing=enable_checkpointing,
                enable_progress_bar=enable_progress_bar,
                enable_model_summary=enable_model_summary,
                print_schedule=print_schedule,
                log_every_n_steps=log_every_n_steps,
                profiler=profiler,
            )
        self.arguments = TrainerArguments(
            stop=StopArguments(
                max_epochs=max_epochs,
                min_epochs=min_epochs,
                max_steps=max_steps,
                min_steps=min_steps,
                max_time=max_time,
            ),
            data=DataArguments(
                limit_train_batches=given(limit_train_batches, 1.0),
                limit_val_batches=given(limit_val_batches, 1.0),
                limit_test_batches=given(limit_test_batches, 1.0),
                limit_predict_batches=given(limit_predict_batches, 1.0),
                overfit_batches=overfit_batches,
                fast_dev_run=fast_dev_run,
                val_check_interval=1.0 if val_check_interval is None else val_check_interval,
                check_val_every_n_epoch=check_val_every_n_epoch,
                num_sanity_val_steps=given(num_sanity_val_steps, 2),
                reload_dataloaders_every_n_epochs=reload_dataloaders_every_n_epochs,
                use_distributed_sampler=use_distributed_sampler,
            ),
            optimization=OptimizationArguments(
                accumulate_grad_batches=accumulate_grad_batches,
                gradient_clip_val=gradient_clip_val,
                gradient_clip_algorithm=gradient_clip_algorithm,
                on_nonfinite_loss=on_nonfinite_loss,
                detect_anomaly=detect_anomaly,
                deterministic=deterministic,
                benchmark=benchmark,
                sync_batchnorm=sync_batchnorm,
                inference_mode=inference_mode,
                compile=compile,
            ),
            output=OutputArguments(
                log_every_n_steps=given(log_every_n_steps, 0 if barebones else 50),
                enable_checkpointing=given(enable_checkpointing, not barebones),
                keep_last=keep_last,
                enable_progress_bar=given(enable_progress_bar, not barebones),
                enable_model_summary=given(enable_model_summary, not barebones),
                print_schedule=print_schedule,
                default_root_dir=default_root_dir,
                barebones=barebones,
            ),
        )
        # Checked by now, as far as arguments can be without data: what follows makes the parts.
        self.precision = resolve_precision(precision)
        # From here on there are as many processes as ranks.
        self.strategy = resolve_strategy(strategy, accelerator, devices, num_nodes)
        self.metrics = MetricCollector(DataRanks(self.strategy))
        self.loggers = make_loggers(logger, self.arguments.output, self.arguments.data)
        self.hooks = HookManager()
        self._callbacks = make_callbacks(callbacks, self.arguments.output, self.arguments.data)
        profilers = make_profilers(profiler, plugins)
        self.profiler = profilers[0] if profilers else Profiler()
        self.progress = Progress()
        self._call = None
        self._previous_call: Call | None = None
        register(
            self.hooks,
            self.callbacks,
            self.loggers,
            self.arguments.output,
            plugins or {},
            profilers=profilers,
            writes=not fast_dev_run,
            warns=on_nonfinite_loss == "warn",
        )
        self._listed: list[object] = [*self.callbacks, *self.loggers]

    def __getstate__(self) -> Never:
        raise UnsupportedError(
            "copy or pickle of a Trainer", "another Trainer(...), and save_checkpoint(path) for state"
        )

    # The four entry points

    def fit(
        self,
        module: TrainModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: DataModule | None = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        weights_only: bool | None = None,
        *,
        take: str | Sequence[str] = (),
        resume: Resume = "exact",
    ) -> None:
        """Train ``module``.

        Args:
            module: What to train.
            train_dataloaders: Any iterable of batches, or a dict or list of loaders. May also be a `DataModule`.
            val_dataloaders: One iterable of batches or a list of loaders; without any there is no validation.
            datamodule: Where loaders come from instead.
            ckpt_path: Continue from a checkpoint: a path, "last" (the newest under ``default_root_dir``), or "best".
            weights_only: Accepted because Lightning has it; checkpoints are always read with ``weights_only=True``.
            take: Arguments of optimizers and schedulers, such as ``["lr", "T_max"]``, of which a run that goes on
                uses the code's value; of all others it uses the checkpoint's, and tells where they differ.
                ``["optimizer"]`` and ``["scheduler"]`` start these anew (``docs/how-to/resume-with-changes.md``).
            resume: How a checkpoint of the middle of an epoch is continued where the data changed. "exact" is an error
                then. "next_epoch" leaves out the rest of that epoch, whatever the data are: it ends as after a -1 from
                ``on_train_batch_start``, with its end hooks and without a validation. "anyway" goes on behind as many
                batches as were done, with what the loader gives now; a warning says that the run is not exact then.

        Raises:
            TrainkitError: If something does not fit together; see its subclasses.
        """
        one_of("resume", resume, get_args(Resume), "fit(resume=...)")
        loaders: dict[LoaderName, Any] = {"train": train_dataloaders, "val": val_dataloaders}
        refuse_to_take(take, ckpt_path)
        with self._calling(Stage.FIT, module, loaders, datamodule, ckpt_path, take, resume) as call:
            call.hooks.around_fit(training.fit, call.fit_run, call.hooks, call.loaders)

    def explain(
        self,
        module: TrainModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: DataModule | None = None,
        ckpt_path: str | os.PathLike[str] | None = None,
    ) -> Explanation:
        """Return what ``fit`` with these arguments is going to do, without training or writing anything.

        Printed, it is one page.

        The fit is prepared as it always is: data is prepared and set up, the module is configured, converted and moved
        to the device, optimizers are made, and with ``ckpt_path`` the weights of that are loaded.

        Args:
            module: What would be trained.
            train_dataloaders: As for `fit`.
            val_dataloaders: As for `fit`.
            datamodule: As for `fit`.
            ckpt_path: As for `fit`.

        Raises:
            TrainkitError: What `fit` would raise before it begins to train.
        """
        loaders: dict[LoaderName, Any] = {"train": train_dataloaders, "val": val_dataloaders}
        with (
            self._left_as_it_is(),
            rehearsed(self) as rehearsal,
            self._calling(Stage.FIT, module, loaders, datamodule, ckpt_path) as call,
            shown(rehearsal, call),
        ):
            return look_at(call)

    def validate(
        self,
        module: TrainModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        datamodule: DataModule | None = None,
        weights_only: bool | None = None,
    ) -> list[dict[str, float]]:
        """Validate ``module`` (or that of the last call) and return its metrics, one dict per loader."""
        return self._evaluate(Stage.VALIDATE, module, dataloaders, datamodule, ckpt_path, verbose)

    def test(
        self,
        module: TrainModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        datamodule: DataModule | None = None,
        weights_only: bool | None = None,
    ) -> list[dict[str, float]]:
        """Test ``module`` (or that of the last call) and return its metrics, one dict per loader."""
        return self._evaluate(Stage.TEST, module, dataloaders, datamodule, ckpt_path, verbose)

    def predict(
        self,
        module: TrainModule | None = None,
        dataloaders: Any = None,
        datamodule: DataModule | None = None,
        return_predictions: bool | None = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        weights_only: bool | None = None,
    ) -> list[Any] | None:
        """Predict every batch, in order.

        Returns:
            What ``predict_step`` returned for each batch; with several loaders one such list per loader; None with
            ``return_predictions=False`` (then a callback takes them in ``on_predict_batch_end``). On several ranks each
            gets the predictions of all, with tensors on the CPU, in the order in which one process would have made
            them; each has to have memory for all, or ``return_predictions=False``.
        """
        with self._calling(Stage.PREDICT, module, {"predict": dataloaders}, datamodule, ckpt_path) as call:
            loaders = call.data.evaluation_loaders("predict")
            if return_predictions is False:
                evaluation.evaluate(call.run, call.hooks, call.hooks.predict, loaders, Phase.PREDICT)
                return None
            predictions = evaluation.predict(call.run, call.hooks, loaders)
        return predictions[0] if len(predictions) == 1 else predictions

    def _evaluate(
        self,
        stage: Stage,
        module: TrainModule | None,
        dataloaders: Any,
        datamodule: DataModule | None,
        ckpt_path: str | os.PathLike[str] | None,
        verbose: bool,
    ) -> list[dict[str, float]]:
        name = LOADER_OF_STAGE[stage]
        with self._calling(stage, module, {name: dataloaders}, datamodule, ckpt_path) as call:
            on = call.hooks.validation if stage is Stage.VALIDATE else call.hooks.test
            loaders = call.data.evaluation_loaders(name)
            results = evaluation.evaluate(call.run, call.hooks, on, loaders, Phase(stage.value))
        if verbose and self.is_global_zero:
            print_results(results, stage)
        return results

    @contextmanager
    def _calling(
        self,
        stage: Stage,
        module: TrainModule | None,
        loaders: Mapping[LoaderName, Any],
        datamodule: DataModule | None,
        ckpt_path: str | os.PathLike[str] | None,
        take: str | Sequence[str] = (),
        resume: Resume = "exact",
    ) -> Iterator[Call]:
        """Begin a `Call`, let a loop run inside, and end it."""
        if stage is not Stage.FIT and module is None and ckpt_path is None:
            ckpt_path = best_of_the_last_fit(self, stage)
        last = self._call
        if last is not None and last.is_running:
            raise NotAttachedError(
                f"trainer.{stage}() was called while trainer.{last.stage}() is running. Call it when that has ended, "
                "or let another Trainer do it with a copy of the module."
            )
        module = check_module(self.module if module is None else module, stage)
        self._listed = follow_lists(self.hooks, self.callbacks, self.loggers, self._listed, self.arguments.output)
        # After an evaluation, optimizers and counters of a fit are still those of the weights: they can be saved then.
        last_fit = None if last is None else last.fit_of_weights
        self._call = call = Call(self, stage, module, loaders, datamodule, ckpt_path, last_fit, take, resume)
        self._previous_call = last
        own_progress = self.progress
        try:
            with call.running():
                # Those of the checkpoint, if one is evaluated: what is logged belongs to its step.
                self.progress = call.progress
                yield call
        finally:
            self.progress, self._previous_call = own_progress, None
            if last is not None and not call.is_prepared:
                # It has come to nothing: what the last call made is still there to be read, and to be saved.
                last.state, self._call = call.state, last
                self.hooks.attach(self, last.module)
                if call.has_changed_state:
                    # But not as the state of its fit, whose optimizers know nothing of the weights that were loaded.
                    last.fit_of_weights = None

    @contextmanager
    def _left_as_it_is(self) -> Iterator[None]:
        """Return a context of whose calls nothing remains: counters, metrics and the newest call are put back."""
        own = (self._call, self.progress, self.metrics)
        self.progress, self.metrics = copy(self.progress), MetricCollector(DataRanks(self.strategy))
        try:
            yield
        finally:
            self._call, self.progress, self.metrics = own
            if self._call is not None:
                self.hooks.attach(self, self._call.module)

    # Saving

    def save_checkpoint(
        self,
        filepath: str | os.PathLike[str],
        weights_only: bool | None = None,
        storage_options: Any = None,
        *,
        write: Callable[[Content, str], None] = write_checkpoint,
        background: BackgroundJob | None = None,
    ) -> None:
        """Write a checkpoint: whole or not at all. With several ranks, all must call it.

        Rank 0 writes one file. Where the strategy leaves what is sharded in parts, it is a folder, and each rank writes
        its own.

        A run goes on exactly from one that was written between two batches, as in ``on_train_batch_end``. From one in
        the middle of a batch, it makes that batch again.

        Args:
            filepath: Where to: a path, or a URL that fsspec knows. Parent folders are made.
            weights_only: Leave out everything that only a continued fit needs, as is done where there was no fit of
                these weights.
            storage_options: Accepted because Lightning has it; must be None.
            write: Writes what is saved to the path, on rank 0.
            background: A job in which it is written, from a copy; None writes it at once.

        Raises:
            CheckpointWriteError: If the file cannot be written. Whatever was there before is untouched.
            CheckpointError: If something in it could not be loaded safely.
            NotAttachedError: Before the first call of ``fit``, ``validate``, ``test`` or ``predict``.
        """
        if not filepath or not isinstance(filepath, str | os.PathLike) or os.fspath(filepath).endswith(os.sep):
            raise ConfigError(f"save_checkpoint({filepath!r}) needs a path to a file, such as 'runs/mine.ckpt'.")
        file_path("save_checkpoint", filepath=filepath)
        if storage_options is not None:
            raise ConfigError("storage_options is not supported. Give a path that needs none.")
        # Plugins that save bring a ``write`` of their own, and have waited for what they need.
        waits = write is write_checkpoint
        save = partial(
            write_newest,
            self,
            weights_only=bool(weights_only),
            write=write,
            background=background,
            waits_for_writers=waits,
        )
        self.hooks.hooks.around_save_checkpoint(save, os.fspath(filepath))

    def dump_checkpoint(self, weights_only: bool = False) -> dict[str, Any]:
        """Return what `save_checkpoint` would write."""
        return dump_newest(self, self._call, self._previous_call, weights_only=weights_only)

    # What plugins and modules do through the Trainer

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send a row of metrics to the loggers.

        Args:
            metrics: Numbers by name.
            step: Where the row stands on the x-axis of every logger; by default at the metric ``step``, which is taken
                out of the row, and where there is none at the current ``global_step``.
        """
        row = dict(metrics)
        if step is None:
            step = as_step(row.pop("step", self.global_step))
        if row:
            self.hooks.hooks.on_log(row, step)

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """What ``module.manual_backward`` does: hooks, precision, backward, the exchange between ranks."""
        hooks, run = self.hooks.hooks, self.fit_run
        if run.weight_of_batch is not None:
            loss, _ = of_own_share(run.weight_of_batch(run.progress.batch), loss)
        hooks.on_before_backward(loss)
        hooks.around_backward(lambda loss: self.precision.backward(loss, *args, **kwargs), loss)
        run.exchange.after_backward(run.module)
        hooks.on_after_backward()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print on rank 0 only."""
        if self.is_global_zero:
            print_as_is(*args, **kwargs)
