"""The names of all parts: the built-in ones, and those that installed packages offer through entry points.

Looking up a name reads only the metadata of packages. Installing a package changes nothing in a run that does not name
its parts, and it is imported when one of them is used.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import trainkit
from trainkit.errors import PluginError, TrainkitError, UnknownNameError, note_on
from trainkit.made_for import unmet_need
from trainkit.output import warn
from trainkit.plugins.consent import normalized, who_forbids
from trainkit.plugins.packages import PREFIX, broken, offering

Kind = Literal["callbacks", "loggers", "strategies", "precision", "profilers", "cli"]
"""The kind of part that a name stands for. Its entry points are in the group ``trainkit.<kind>``."""

SINGULAR: dict[Kind, str] = {
    "callbacks": "callback",
    "loggers": "logger",
    "strategies": "strategy",
    "precision": "precision",
    "profilers": "profiler",
    "cli": "command",
}

KIND_OF_ARGUMENT: dict[str, Kind] = {
    "strategy": "strategies",
    "precision": "precision",
    "logger": "loggers",
    "profiler": "profilers",
}
"""Arguments of the Trainer that take plugins by name."""

_DEFAULTS = ("auto", "32-true")
"""What a Trainer looks up by itself, for which no metadata is read."""

# As text, so that the catalog imports none of them, and a run those it uses.
_BUILTIN: dict[Kind, dict[str, str]] = {
    "callbacks": {
        "accumulation_schedule": "trainkit.callbacks.accumulation_schedule:GradientAccumulationScheduler",
        "backbone_finetuning": "trainkit.callbacks.finetuning.callback:BackboneFinetuning",
        "device_stats": "trainkit.callbacks.device_stats:DeviceStatsMonitor",
        "early_stopping": "trainkit.callbacks.early_stopping:EarlyStopping",
        "ema_weight_averaging": "trainkit.callbacks.weight_averaging:EMAWeightAveraging",
        "gradient_clipping": "trainkit.callbacks.builtin.gradient_clipping:GradientClipping",
        "lr_monitor": "trainkit.callbacks.lr_monitor:LearningRateMonitor",
        "model_checkpoint": "trainkit.callbacks.model_checkpoint.callback:ModelCheckpoint",
        "model_summary": "trainkit.callbacks.model_summary:ModelSummary",
        "prediction_writer": "trainkit.callbacks.prediction_writer:PredictionWriter",
        "progress_bar": "trainkit.callbacks.progress_bar:ProgressBar",
        "stochastic_weight_averaging": "trainkit.callbacks.stochastic_weight_averaging:StochasticWeightAveraging",
        "timer": "trainkit.callbacks.timer:Timer",
        "weight_averaging": "trainkit.callbacks.weight_averaging:WeightAveraging",
    },
    "loggers": {
        "csv": "trainkit.loggers.csv:CSVLogger",
        "tensorboard": "trainkit.loggers.tensorboard.logger:TensorBoardLogger",
    },
    "strategies": {
        "auto": "trainkit.strategies.single:SingleDevice",
        "cpu": "trainkit.strategies.single:SingleDevice",
        "cuda": "trainkit.strategies.single:SingleDevice",
        "mps": "trainkit.strategies.single:SingleDevice",
        "single": "trainkit.strategies.single:SingleDevice",
        "dp": "trainkit.strategies.data_parallel:DataParallel",
        "ddp": "trainkit.strategies.ddp:DDP",
        "fsdp": "trainkit.strategies.fsdp.strategy:FSDP",
    },
    "precision": {
        "64-true": "trainkit.precision.dtypes:Float64",
        "32-true": "trainkit.precision.dtypes:Float32",
        "16-true": "trainkit.precision.dtypes:Float16",
        "bf16-true": "trainkit.precision.dtypes:BFloat16",
        "16-mixed": "trainkit.precision.mixed_float16:MixedFloat16",
        "bf16-mixed": "trainkit.precision.dtypes:MixedBFloat16",
    },
    "profilers": {
        "simple": "trainkit.profilers.simple:SimpleProfiler",
        "torch": "trainkit.profilers.torch_trace:TorchProfiler",
    },
    # In the order of the help.
    "cli": {
        "fit": "trainkit.cli.fit:command",
        "explain": "trainkit.cli.explain:command",
        "validate": "trainkit.cli.validate:command",
        "test": "trainkit.cli.test:command",
        "predict": "trainkit.cli.predict:command",
        "checkpoint": "trainkit.cli.checkpoint:command",
        "verify-resume": "trainkit.cli.verify_resume:command",
        "config": "trainkit.cli.config:command",
        "doctor": "trainkit.cli.doctor:command",
        "plugins": "trainkit.cli.plugins:command",
        "plugin": "trainkit.cli.plugin:command",
        "init": "trainkit.cli.init:command",
        "runs": "trainkit.cli.runs:command",
    },
}

# Lightning's, most of them.
_ALIASES: dict[Kind, dict[str, tuple[str, dict[str, Any]]]] = {
    "strategies": {
        "ddp_find_unused_parameters_true": ("ddp", {"find_unused_parameters": True}),
        "ddp_find_unused_parameters_false": ("ddp", {"find_unused_parameters": False}),
        "fsdp_cpu_offload": ("fsdp", {"cpu_offload": True}),
    },
    "precision": {"64": ("64-true", {}), "32": ("32-true", {}), "16": ("16-mixed", {}), "bf16": ("bf16-mixed", {})},
}
"""Names that stand for another one with some arguments."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the catalog, and the object it stands for.

    Attributes:
        kind: The kind of part.
        name: The name, as the user writes it.
        distribution: The installed package that offers it, by its name for pip.
        version: The version of that package.
        target: The place of the object, as ``"module:attribute"``.
        stands_for: Another name, and arguments, that this one is short for; empty if it is none.
    """

    kind: Kind
    name: str
    distribution: str
    version: str
    target: str
    stands_for: str = ""

    @property
    def qualified_name(self) -> str:
        """``package:name``, which is unambiguous whatever else is installed."""
        return f"{self.distribution}:{self.name}"

    @property
    def unmet_need(self) -> str:
        """Which trainkit the package needs, such as ``trainkit<0.1``, if that is another one than this; else empty."""
        return "" if self.distribution == "trainkit" else unmet_need(self.distribution)

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Return a context in which errors are told to be about this package; trainkit's own need no such note.

        Raises:
            PluginError: If the package asks for the end of the program, which is not its own.
        """
        try:
            yield
        except SystemExit as error:
            if self.distribution == "trainkit":
                raise
            raise PluginError(
                f"{SINGULAR[self.kind]} {self.name!r} asks for the end of the program: SystemExit: {error}\n"
                f"    offered by   {self.distribution} {self.version}\n"
                f"    to mend it   upgrade, repair or uninstall {self.distribution}, or do not name {self.name!r}"
            ) from error
        except Exception as error:
            if self.distribution != "trainkit":
                note_on(error, f"    offered by   {self.distribution} {self.version}")
            raise

    @property
    def class_name(self) -> str:
        """The name of the object itself, such as that of its class."""
        return self.target.rpartition(":")[2].rpartition(".")[2]

    def load(self) -> Any:
        """Import and return the object.

        Raises:
            PluginError: If the import fails, for any reason; the reason is its ``__cause__``.
        """
        module_name, _, attribute = self.target.partition(":")
        try:
            loaded: Any = importlib.import_module(module_name)
            for part in filter(None, attribute.split(".")):
                loaded = getattr(loaded, part)
        # Already a message of ours, such as the name of an extra that is not installed.
        except TrainkitError:
            raise
        # A plugin's module may fail in any way while it is imported, and may ask for the end of the program, which is
        # none of its own; the message has to name the package for each.
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{SINGULAR[self.kind]} {self.name!r} cannot be imported: {type(error).__name__}: {error}\n"
                f"    offered by   {self.distribution} {self.version}\n"
                f"    target       {self.target}\n"
                f"    to mend it   upgrade, repair or uninstall {self.distribution}, or do not name {self.name!r}"
            ) from error
        _, given = _ALIASES.get(self.kind, {}).get(self.name, ("", {}))
        return functools.partial(loaded, **given) if given and self.stands_for else loaded

    def load_maker(self) -> Callable[..., Any]:
        """Import and return the object, which is one to be called.

        Raises:
            PluginError: If the import fails, or if it cannot be called.
        """
        loaded: Callable[..., Any] = self.load()
        if not callable(loaded):
            raise PluginError(
                f"{SINGULAR[self.kind]} {self.name!r} is {loaded!r}, and a class or function is needed.\n"
                f"    offered by   {self.distribution} {self.version}\n"
                f"    target       {self.target}\n"
                f"    to mend it   name a class in the entry point of {self.distribution}"
            )
        return loaded


def own_targets(kind: Kind) -> dict[str, str]:
    """Return the names of trainkit's own parts of a kind, and their targets. No metadata is read for it."""
    return dict(_BUILTIN[kind])


def entries(kind: Kind) -> list[Entry]:
    """Return every entry of a kind: the built-in ones, then those of installed packages, sorted by name.

    Loggers are callbacks too, and can be named wherever one can.
    """
    return [*_builtin_entries(kind), *_installed_entries(kind)]


def find(kind: Kind, name: str, where: str = "") -> Entry:
    """Return the entry that ``name`` stands for, without importing its object.

    Args:
        kind: The kind of part.
        name: A bare name, or ``package:name``. Packages cannot replace the bare names of trainkit.
        where: Where the user wrote it; goes into the error.

    Raises:
        UnknownNameError: If nobody offers the name.
        PluginError: If several packages do; the message lists the ``package:name`` forms. Or if the one that does may
            not be used here, see `trainkit.plugins.consent`, needs another version of trainkit, or has metadata that
            are broken.
    """
    matches = offered(kind, name)
    if not matches:
        _refuse_broken(kind, name, where)
        allowed = {entry.qualified_name if ":" in name else entry.name for entry in entries(kind)}
        raise UnknownNameError(SINGULAR[kind], name, allowed, where)
    if matches[0].distribution == "trainkit":
        if matches[0].name == name not in _DEFAULTS:
            _tell_of_shadowed(matches[0], where)
        return matches[0]
    allowed_here = [entry for entry in matches if who_forbids(entry.distribution, entry.name) is None]
    if not allowed_here:
        raise PluginError(_forbidden(matches[0], where))
    matches = allowed_here
    if len(matches) > 1:
        raise PluginError(
            f"{SINGULAR[kind]} {name!r} is offered by {len(matches)} packages.\n"
            + (f"    in           {where}\n" if where else "")
            + f"    write one of {', '.join(sorted(entry.qualified_name for entry in matches))}"
        )
    if need := matches[0].unmet_need:
        raise PluginError(_made_for_another(matches[0], need, where))
    return matches[0]


def offered(kind: Kind, name: str) -> list[Entry]:
    """Return the entries that ``name`` may stand for: that of trainkit, else those of all packages that offer it."""
    # First: packages cannot replace them.
    builtin = [entry for entry in _builtin_entries(kind) if entry.name == name]
    if builtin:
        return builtin
    # Without a colon, `package` and `separator` are empty and every package is asked.
    package, separator, bare_name = name.rpartition(":")
    return [
        entry
        for entry in entries(kind)
        if entry.name == bare_name and (not separator or normalized(entry.distribution) == normalized(package))
    ]


def class_name(kind: Kind, name: str) -> str:
    """Return the name of the class that ``name`` stands for, which nothing is imported for; ``name`` if there is none.

    Plugins are registered by the names of their classes, which errors tell, and written by those of the catalog.
    """
    found = offered(kind, name)
    return found[0].class_name if found else name


def has(kind: Kind, name: str) -> bool:
    """Return whether anybody offers ``name``."""
    try:
        find(kind, name)
    except UnknownNameError:
        return False
    except PluginError:  # several do
        pass
    return True


def load(kind: Kind, name: str, where: str = "") -> Any:
    """Import and return the object that ``name`` stands for. Raises what `find` and `Entry.load` raise."""
    return find(kind, name, where).load()


def _refuse_broken(kind: Kind, name: str, where: str) -> None:
    """Raise if a package offers the name whose metadata cannot be read."""
    package, separator, bare_name = name.rpartition(":")
    groups = [f"{PREFIX}{each}" for each in _within(kind)]
    for each in broken():
        is_named = not separator or normalized(each.name) == normalized(package)
        if is_named and any((group, bare_name) in each.names for group in groups):
            raise PluginError(
                f"{SINGULAR[kind]} {name!r} is of a package whose metadata are broken.\n"
                + (f"    in           {where}\n" if where else "")
                + f"    offered by   {each.name}, in {each.folder}\n"
                f"    broken       {each.why}\n"
                f"    to mend it   {each.to_do}"
            )


def _forbidden(entry: Entry, where: str) -> str:
    """Return the message for a name that may not be used; it says who forbids it."""
    return (
        f"{SINGULAR[entry.kind]} {entry.name!r} of {entry.distribution} {entry.version} may not be used here.\n"
        + (f"    in           {where}\n" if where else "")
        + f"    said by      {who_forbids(entry.distribution, entry.name)}\n"
        f"    to use it    add {entry.distribution!r} there, or take it from what is forbidden"
    )


def _made_for_another(entry: Entry, need: str, where: str) -> str:
    """Return the message for a part of a package that needs another trainkit. Nothing of it has been imported."""
    return (
        f"{SINGULAR[entry.kind]} {entry.name!r} was made for another version of trainkit.\n"
        + (f"    in           {where}\n" if where else "")
        + f"    offered by   {entry.distribution} {entry.version}, which needs {need}\n"
        f"    installed    trainkit {trainkit.__version__}\n"
        f"    to mend it   pip install --upgrade {entry.distribution}, or pip install '{need}'"
    )


def _tell_of_shadowed(own: Entry, where: str) -> None:
    """Warn of packages that offer something under the name of a built-in part, which is what that name means."""
    others = [
        entry.qualified_name
        for entry in _installed_entries(own.kind)
        if entry.name == own.name and who_forbids(entry.distribution, entry.name) is None
    ]
    if others:
        warn(
            f"{f'{where}: ' if where else ''}{own.name!r} is trainkit's own {SINGULAR[own.kind]}. For one of the same "
            f"name in another package write {' or '.join(others)}.",
        )


def _within(kind: Kind) -> tuple[Kind, ...]:
    """Return the kinds whose names can stand where one of ``kind`` is named."""
    return ("callbacks", "loggers") if kind == "callbacks" else (kind,)


def _builtin_entries(kind: Kind) -> list[Entry]:
    version = _own_version()
    return [
        Entry(each, name, "trainkit", version, target)
        for each in _within(kind)
        for name, target in _BUILTIN[each].items()
    ] + [
        Entry(each, name, "trainkit", version, _BUILTIN[each][meant], _in_words(meant, given))
        for each in _within(kind)
        for name, (meant, given) in _ALIASES.get(each, {}).items()
    ]


def _in_words(name: str, arguments: dict[str, Any]) -> str:
    return ", ".join([name, *(f"{key}={value}" for key, value in arguments.items())])


def _installed_entries(kind: Kind) -> list[Entry]:
    """Return the entries of all packages on ``sys.path``. Read anew at each call: a program may install packages."""
    found = [
        Entry(each, point.name, package.name, package.version, point.value)
        for each in _within(kind)
        for package in offering()
        for point in package.points
        if point.group == f"{PREFIX}{each}"
    ]
    return sorted(found, key=lambda entry: (entry.name, entry.distribution))


@functools.cache  # every built-in part of every Trainer asks for it
def _own_version() -> str:
    try:
        return importlib.metadata.version("trainkit")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that was not installed
        return "unknown"
