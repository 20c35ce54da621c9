"""Which plugins a Trainer has: the core's own, the callbacks it was given or has by default, the loggers."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from trainkit.callbacks.builtin.fit_report import FitReport
from trainkit.callbacks.builtin.gradient_clipping import GradientClipping
from trainkit.callbacks.builtin.last_checkpoint import LastCheckpoint
from trainkit.callbacks.builtin.lr_schedulers import LRSchedulers
from trainkit.callbacks.builtin.monitor_watch import MonitorWatch, monitors_of
from trainkit.callbacks.builtin.nonfinite_loss import StopOnNonFiniteLoss
from trainkit.callbacks.builtin.run_record import RunRecord
from trainkit.callbacks.model_checkpoint.callback import ModelCheckpoint
from trainkit.callbacks.model_summary import ModelSummary
from trainkit.callbacks.progress_bar import ProgressBar
from trainkit.callbacks.schedule_preview import SchedulePreview
from trainkit.checks import flags
from trainkit.errors import ConfigError, UnknownArgumentError, UnknownNameError, nearest_name
from trainkit.hooks.manager import HookManager
from trainkit.loggers.csv import CSVLogger
from trainkit.loggers.dummy import DummyLogger
from trainkit.loggers.logger import Logger
from trainkit.loggers.metric_rows import MetricRows
from trainkit.loggers.tensorboard.logger import TensorBoardLogger
from trainkit.module import TrainModule
from trainkit.module.optimizers import SchedulerConfig
from trainkit.plugins import catalog
from trainkit.plugins.resolve import resolve_callback, resolve_logger, resolve_profiler
from trainkit.profilers.base import Profiler
from trainkit.profilers.simple import SimpleProfiler
from trainkit.reflection import overrides
from trainkit.trainer.arguments import DataArguments, OptimizationArguments, OutputArguments

PLUGIN_OPTIONS = ("timing", "disable")

OWN_NAMES = frozenset(
    plugin.__name__ for plugin in (MetricRows, FitReport, LRSchedulers, GradientClipping, LastCheckpoint, RunRecord)
)
"""The names of the core's own plugins, also of those that a fit adds later. Any of them may be disabled."""


def refuse_unknown_arguments(owner: type, unknown: Mapping[str, Any]) -> None:
    """Raise for keyword arguments that ``owner`` does not have, naming the nearest one it has."""
    if unknown:
        parameters = inspect.signature(owner).parameters.values()
        allowed = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
        raise UnknownArgumentError("argument", next(iter(unknown)), allowed, f"{owner.__name__}(...)")


def make_loggers(logger: Any, output: OutputArguments, data: DataArguments) -> list[Logger]:
    """Return the loggers that ``Trainer(logger=...)`` means: True is TensorBoard and CSV files in one folder.

    A fast dev run writes nothing, but has a logger, which the module may use.

    Raises:
        ConfigError: If it is none.
    """
    if output.barebones or logger is False:
        return []
    if data.fast_dev_run:
        return [DummyLogger(output.root)]
    if logger is None or logger is True:
        # One folder for both, so that a version number names one run.
        tensorboard = TensorBoardLogger(save_dir=output.root)
        return [tensorboard, CSVLogger.beside(tensorboard)]
    return check_loggers(logger if isinstance(logger, Sequence) and not isinstance(logger, str) else [logger], output)


def check_loggers(loggers: Iterable[Any], output: OutputArguments) -> list[Logger]:
    """Return the loggers as a list, names resolved, each with a folder to write in.

    Raises:
        ConfigError: If one of them is none, or nobody offers a name.
    """
    checked: list[Logger] = []
    for given in loggers:
        logger = resolve_logger(given)
        if not isinstance(logger, Logger):
            raise ConfigError(
                f"logger={given!r} is no logger. Allowed: True, False, a name such as 'csv', a "
                "trainkit.callbacks.Logger, or a list of these."
            )
        logger.default_to(output.root)
        checked.append(logger)
    return checked


def make_callbacks(callbacks: Any, output: OutputArguments, data: DataArguments) -> list[Any]:
    """Return the callbacks that were given, names resolved, and the defaults; checkpoints last."""
    if callbacks is None:
        given: list[Any] = []
    elif isinstance(callbacks, Sequence) and not isinstance(callbacks, str):
        given = [resolve_callback(callback) for callback in callbacks]
    else:
        given = [resolve_callback(callbacks)]
    defaults = default_callbacks(output, given)
    # One that was given stays, and writes nothing by itself then.
    if data.fast_dev_run:
        defaults = [callback for callback in defaults if not isinstance(callback, ModelCheckpoint)]
    return checkpoints_last([*given, *defaults])


def checkpoints_last(callbacks: Iterable[Any]) -> list[Any]:
    """Return ``callbacks`` in their order, but those that save behind the others, whose work they are to see."""
    return sorted(callbacks, key=lambda callback: isinstance(callback, ModelCheckpoint))


def register(
    manager: HookManager,
    callbacks: Iterable[object],
    loggers: Sequence[Logger],
    output: OutputArguments,
    options: Mapping[str, Any],
    *,
    profilers: Iterable[Profiler] = (),
    writes: bool = True,
    warns: bool = True,
) -> None:
    """Register every plugin of a Trainer, in the order in which they are called within a stage.

    Raises:
        ConfigError: If ``options`` are none, or name something almost like a plugin.
        HookError: If a hook of a plugin cannot be bound.
        PluginError: If two plugins have the same name.
    """
    disabled = _disabled(options)
    for name in disabled:
        # Either name does: the one that it is written by in a configuration, and that of its class, which errors tell.
        manager.block(name)
        manager.block(catalog.class_name("callbacks", name))
    for profiler in profilers:
        if isinstance(profiler, SimpleProfiler):
            manager.timing.enable(profiler)  # now, so that the first hook of all is measured too
    # First of its plugin stage: a row is sent before anybody decides, stops or raises by what is in it.
    rows = [] if output.barebones else [MetricRows(warns=warns)]
    last = [LastCheckpoint(at_save_points=output.keep_last)] if output.enable_checkpointing and writes else []
    report = [FitReport()] if output.enable_progress_bar else []
    record = [RunRecord()] if loggers and writes and not output.barebones else []
    preview = [SchedulePreview()] if output.print_schedule else []
    own_plugins = (*profilers, *last, *rows, *report, *record, *preview)
    names = [manager.register(plugin) for plugin in (*own_plugins, *callbacks, *loggers)]
    _refuse_typos(disabled, {*names, *OWN_NAMES})


def make_profilers(profiler: Any, options: Any) -> list[Profiler]:
    """Return the profilers that ``Trainer(profiler=..., plugins={"timing": True})`` ask for.

    Raises:
        ConfigError: If ``profiler`` is none, or nobody offers its name.
    """
    profilers: list[Profiler] = []
    if profiler is not None:
        made = resolve_profiler(profiler)
        if not isinstance(made, Profiler):
            raise ConfigError(
                f"profiler={profiler!r} is no profiler. Allowed: None, 'simple', 'torch', another name of "
                "`trainkit plugins --kind profilers`, or a trainkit.profilers.Profiler."
            )
        profilers.append(made)
    # What else is wrong with the options is told when all of them are used.
    if _asks_for_timing(options) and not any(isinstance(each, SimpleProfiler) for each in profilers):
        profilers.append(SimpleProfiler())
    return profilers


def _asks_for_timing(options: Any) -> bool:
    asks = options.get("timing") if isinstance(options, Mapping) else None
    flags("Trainer(plugins=...)", optional=True, timing=asks)
    return bool(asks)


def follow_lists(
    manager: HookManager,
    callbacks: list[Any],
    loggers: Iterable[Any],
    before: list[object],
    output: OutputArguments,
) -> list[object]:
    """Let plugins join, or leave, that were added to or taken from the Trainer's lists since its last call.

    Args:
        manager: Where they are registered.
        callbacks: The Trainer's callbacks now. Names in it are resolved, and those that save are put last.
        loggers: Its loggers now.
        before: Both lists as they were then.
        output: Where loggers write that have no folder of their own.

    Returns:
        Both lists as they are now.

    Raises:
        ConfigError: If something among the loggers is none.
        HookError: If a hook of a plugin cannot be bound.
        PluginError: If one is no plugin, or two have the same name.
    """
    loggers = check_loggers(loggers, output)
    if [id(plugin) for plugin in (*callbacks, *loggers)] == [id(plugin) for plugin in before]:
        return before
    callbacks[:] = checkpoints_last(resolve_callback(callback) for callback in callbacks)
    now = [*callbacks, *loggers]
    known = {id(plugin) for plugin in before}
    gone = {id(plugin) for plugin in before if not manager.is_registered(plugin)}  # the user has unregistered them
    # One that is new in a list may be registered already. All join anew, so that they are called in the lists' order.
    added = {id(plugin): plugin for plugin in now if id(plugin) not in known}
    manager.replace([*before, *added.values()], [plugin for plugin in now if id(plugin) not in gone])
    return now


def _disabled(options: Any) -> list[str]:
    """Return the names of plugins to leave out, the options being checked."""
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"plugins={options!r} is not usable. Allowed: a dict such as {{'timing': True, 'disable': ['name']}}. "
            "What joins a run belongs in callbacks=[...]."
        )
    for option in options:
        if option not in PLUGIN_OPTIONS:
            raise UnknownArgumentError("option", str(option), PLUGIN_OPTIONS, "Trainer(plugins=...)")
    names = options.get("disable")
    if names is None:
        return []
    if (
        isinstance(names, str | Mapping)
        or not isinstance(names, Iterable)
        or not all(isinstance(name, str) for name in names)
    ):
        raise ConfigError(f"plugins={{'disable': {names!r}}} is not usable. Allowed: a list of names of plugins.")
    return list(names)


def _refuse_typos(disabled: Iterable[str], known: Collection[str]) -> None:
    """Raise for a name that only comes close to that of a plugin; others may belong to plugins that are to come.

    Here plugins are there already, so that the name of a package says nothing.
    """
    for name in disabled:
        if name not in known and (
            offered := [each.name for each in catalog.entries("callbacks") if each.distribution == name]
        ):
            raise ConfigError(
                f"plugins={{'disable': [{name!r}]}}: that is a package. Name what it offers: {', '.join(offered)}."
            )
        is_known = name in known or catalog.has("callbacks", name)
        if not is_known and nearest_name(name, known, 0.8) is not None:
            raise UnknownNameError("plugin", name, known, "Trainer(plugins={'disable': ...})")


def fit_plugins(
    module: TrainModule,
    schedulers: Collection[SchedulerConfig],
    callbacks: Iterable[object],
    arguments: OptimizationArguments,
) -> list[object]:
    """Return the core's own plugins that a fit needs: nothing is called in it that has nothing to do."""
    plugins: list[object] = []
    # Who does without a metric warns of that, where it would have used it.
    if monitors := monitors_of(each for each in (*callbacks, *schedulers) if getattr(each, "strict", True)):
        plugins.append(MonitorWatch(monitors))
    if schedulers:
        plugins.append(LRSchedulers())
    # An override is called without a value too: it may clip by what it knows itself.
    clips = arguments.gradient_clip_val or overrides(module, "configure_gradient_clipping", TrainModule)
    if clips and not any(isinstance(callback, GradientClipping) for callback in callbacks):
        plugins.append(GradientClipping(arguments.gradient_clip_val, arguments.gradient_clip_algorithm))
    if arguments.on_nonfinite_loss == "stop":
        plugins.append(StopOnNonFiniteLoss())
    return plugins


def default_callbacks(output: OutputArguments, given: Iterable[object]) -> list[object]:
    """The callbacks that a Trainer has unless they are given or switched off.

    Raises:
        ConfigError: If one is given and switched off at the same time.
    """
    defaults: list[object] = []
    for kind, enabled, name in (
        (ProgressBar, output.enable_progress_bar, "enable_progress_bar"),
        (ModelSummary, output.enable_model_summary, "enable_model_summary"),
        (ModelCheckpoint, output.enable_checkpointing, "enable_checkpointing"),
    ):
        has_one = any(isinstance(callback, kind) for callback in given)
        if has_one and not enabled:
            raise ConfigError(
                f"{name}=False contradicts the {kind.__name__} among the callbacks. Leave out one of them."
            )
        if enabled and not has_one:
            defaults.append(kind())
    return defaults
