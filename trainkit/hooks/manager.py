"""The registry of plugins: pluggy holds their hooks, orders and blocks them; this adds names, stages and strictness.

Within one hook, plugins are called by stage (setup, modify, module, observe, decide, persist), and within a stage in
the order in which they were registered. pluggy's ``tryfirst`` and ``trylast`` go before and after all of these.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterable
from typing import Literal, get_args

import pluggy
from pluggy import HookimplOpts

from trainkit.errors import HookError, PluginError, TrainkitError, UnknownNameError
from trainkit.hooks import specs
from trainkit.hooks.dispatch import BoundHooks, bind, nobody
from trainkit.hooks.implementations import find_implementations, owner_name
from trainkit.hooks.timing import Ledger

PluginStage = Literal["setup", "modify", "module", "observe", "decide", "persist"]
"""When a plugin is called within one hook: ``modify`` changes weights or batches, ``module`` is the user's own
`TrainModule`, ``observe`` looks on (loggers, progress bars), ``decide`` stops or steers, ``persist`` saves."""

STAGES: tuple[PluginStage, ...] = get_args(PluginStage)


class HookManager:
    """The plugins of one Trainer.

    A plugin is an object, a class or a Python module with functions that are named after hooks. It may have a ``stage``
    (default ``"observe"``), a ``name``, and a ``state_key`` if it has a ``state_dict``. Every change takes effect at
    the next call of a hook, and happens as a whole or not at all.

    Attributes:
        hooks: What the loops call; the same object at all times.
        timing: Seconds and calls by plugin and hook, once enabled.
    """

    def __init__(self) -> None:
        self.hooks = BoundHooks()
        self.timing = Ledger(on_enable=self._bind)
        self._registry = _Registry(specs.hookspec.project_name)
        self._registry.add_hookspecs(specs)
        self._members: list[_Member] = []
        self._places = itertools.count()
        self._run: tuple[object, object] | None = None

    def register(self, plugin: object, *, name: str | None = None) -> str:
        """Add a plugin and return its name.

        The name is ``name``, else the plugin's own ``name`` if that is a plain attribute, else that of its class,
        numbered if it is taken. A plugin whose name is blocked stays out.

        Raises:
            HookError: If one of its hooks cannot be bound.
            PluginError: If it is no plugin, or it, its name or its state key is registered already.
        """
        member = self._admit(plugin, name, self._members)
        if not self._registry.is_blocked(member.name):
            self._arrange([*self._members, member])
        return member.name

    def unregister(self, plugin: object) -> None:
        """Remove a plugin, given itself or its name."""
        member = self._find(plugin)
        if member is None and isinstance(plugin, str):
            raise UnknownNameError("plugin", plugin, self._names(), where="unregister()")
        if member is None:
            raise PluginError(
                f"{owner_name(plugin)} is not registered. Registered: {', '.join(self._names()) or '(none)'}"
            )
        self._arrange([other for other in self._members if other is not member])

    def replace(self, old: Iterable[object], new: Iterable[object]) -> None:
        """Remove the plugins ``old`` and add ``new`` at once. Those that are not registered are ignored.

        In the order of calls, the first of ``new`` takes the place of the first of ``old``, and so on.
        """
        removed = [member for plugin in old if (member := self._find(plugin)) is not None]
        members = [member for member in self._members if member not in removed]
        places = iter([member.place for member in removed])
        for plugin in new:
            member = self._admit(plugin, None, members, place=next(places, None))
            if not self._registry.is_blocked(member.name):
                members.append(member)
        self._arrange(members)

    def is_registered(self, plugin: object) -> bool:
        """Return whether a plugin, given itself or its name, takes part."""
        return self._find(plugin) is not None

    @property
    def plugins(self) -> list[tuple[str, object]]:
        """Names and plugins in the order in which they are called."""
        return [(member.name, member.plugin) for member in self._members]

    def order(self, hook: str) -> list[str]:
        """Return the names of the plugins that join ``hook``, in the order of their calls: wrappers first."""
        if hook not in specs.HOOKS:
            raise UnknownNameError("hook", hook, specs.HOOKS)
        return [impl.plugin_name for impl in self._registry.calls(hook)]

    def block(self, name: str) -> None:
        """Keep the plugin of this name out, also if it is registered later."""
        self._arrange([member for member in self._members if member.name != name])
        self._registry.set_blocked(name)

    def attach(self, trainer: object, module: object) -> BoundHooks:
        """Bind all hooks to a trainer and the module it runs, which joins them as a plugin at the stage ``module``."""
        self.detach()
        name = _free_name(type(module).__name__, self._members)
        self._arrange([*self._members, _Member(module, name, "module", next(self._places))])
        self._run = (trainer, module)
        self._bind()
        return self.hooks

    def detach(self) -> None:
        """Let go of trainer and module; until the next `attach`, hooks call nobody."""
        if self._run is None:
            return
        _, module = self._run
        self._run = None
        self._arrange([member for member in self._members if member.plugin is not module])
        self._bind()

    def _admit(self, plugin: object, name: str | None, others: list[_Member], place: int | None = None) -> _Member:
        """Check everything about a plugin that is to join ``others``; changes nothing."""
        try:
            return self._examine(plugin, name, others, place)
        except Exception as error:
            if not isinstance(error, TrainkitError):  # raised by a property or __getattr__ of the plugin's own
                error.add_note(f"while {owner_name(plugin)} was registered as a plugin")
            raise

    def _examine(self, plugin: object, name: str | None, others: list[_Member], place: int | None) -> _Member:
        if type(plugin).__module__ == "builtins" and not inspect.isclass(plugin) and not inspect.ismodule(plugin):
            raise PluginError(f"{plugin!r} is no plugin. Give an object that has methods named after hooks.")
        stage = getattr(plugin, "stage", "observe")
        if stage not in STAGES:
            raise UnknownNameError("plugin stage", str(stage), STAGES, where=f"{owner_name(plugin)}.stage")
        given_name = name or _own_name(plugin)
        member = _Member(
            plugin,
            given_name or _free_name(owner_name(plugin), others),
            stage,
            next(self._places) if place is None else place,
        )
        member.state_key = _state_key(plugin, given_name)
        for other in others:
            _refuse_clash(member, other)
        return member

    def _find(self, plugin: object) -> _Member | None:
        for member in self._members:
            if member.plugin is plugin or (isinstance(plugin, str) and member.name == plugin):
                return member
        return None

    def _names(self) -> list[str]:
        return [member.name for member in self._members]

    def _arrange(self, members: list[_Member]) -> None:
        """Let exactly ``members`` take part, each at its place."""
        before = self._members
        members = sorted(members, key=lambda member: (STAGES.index(member.stage), member.place))
        try:
            self._sync(members)
        except pluggy.PluginValidationError as error:
            # What it refuses was refused before, unless a decorator gave a function a signature that is not its own.
            self._sync(before)
            raise HookError(str(error)) from error
        self._bind({hook for member in {*before} ^ {*members} for hook in member.hooks})

    def _sync(self, members: list[_Member]) -> None:
        """Make pluggy hold ``members``. It calls first what came last, so only what is called last can stay."""
        pairs = zip(reversed(self._members), reversed(members), strict=False)
        num_kept = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] is pair[1], pairs))
        split = len(members) - num_kept
        self._members = members[split:]
        for member in self._registry.get_plugins().difference(self._members):
            self._registry.unregister(member)
        for member in reversed(members[:split]):
            self._registry.register(member, member.name)
        self._members = members

    def _bind(self, hooks: Iterable[str] = specs.HOOKS) -> None:
        for hook in hooks:
            if self._run is None:
                self.hooks.rebind(hook, nobody(hook))
            else:
                self.hooks.rebind(hook, bind(hook, self._registry.calls(hook), *self._run, self.timing))


class _Member:
    """A plugin that takes part, and what pluggy registers in its place: an object that has its hooks and nothing else.

    So plugins may compare equal, be unhashable, or have properties; pluggy never touches them.
    """

    __slots__ = ("__dict__", "hooks", "name", "options", "place", "plugin", "stage", "state_key")

    def __init__(self, plugin: object, name: str, stage: PluginStage, place: int) -> None:
        self.plugin = plugin
        self.name = name
        self.stage = stage
        self.place = place
        self.state_key: str | None = None
        self.options: dict[str, HookimplOpts] = {}
        self.hooks: set[str] = set()
        for attribute, function, options in find_implementations(plugin):
            setattr(self, f"hook_{attribute}", function)
            self.options[f"hook_{attribute}"] = options
            self.hooks.add(options["specname"] or attribute)

    def __dir__(self) -> Iterable[str]:
        """What pluggy looks at."""
        return self.options


class _Registry(pluggy.PluginManager):
    """pluggy, told by each member which of its attributes are hooks."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> HookimplOpts | None:
        assert isinstance(plugin, _Member)
        return plugin.options.get(name)

    def calls(self, hook: str) -> list[pluggy.HookImpl]:
        """Return the implementations of ``hook`` in the order of their calls."""
        caller: pluggy.HookCaller = getattr(self.hook, hook)
        return caller.get_hookimpls()[::-1]


def _own_name(plugin: object) -> str | None:
    """Return the name a plugin gives itself. A property is something else: loggers have one, which names a folder."""
    name = inspect.getattr_static(plugin, "name", None)
    return name if isinstance(name, str) and name else None


def _free_name(base: str, others: list[_Member]) -> str:
    taken = {other.name for other in others}
    numbered = (base if number == 1 else f"{base}-{number}" for number in itertools.count(1))
    return next(name for name in numbered if name not in taken)


def _state_key(plugin: object, name: str | None) -> str | None:
    """Return under which key a checkpoint keeps the plugin's state; None if it has none."""
    if getattr(plugin, "state_dict", None) is None:
        return None
    return getattr(plugin, "state_key", None) or name or owner_name(plugin)


def _refuse_clash(new: _Member, old: _Member) -> None:
    if new.plugin is old.plugin:
        raise PluginError(f"this {owner_name(new.plugin)} is registered already: {old.name!r}. Add another instance.")
    if new.name == old.name:
        raise PluginError(
            f"two plugins are named {new.name!r}: {owner_name(old.plugin)} and {owner_name(new.plugin)}. "
            "Give one of them another name."
        )
    if new.state_key is not None and new.state_key == old.state_key:
        raise PluginError(
            f"{old.name!r} and {new.name!r} ({owner_name(new.plugin)}) have the same state_key {new.state_key!r}, so a "
            "checkpoint could not tell their states apart. Remove one, give them different arguments, or define "
            "state_key as a property that tells them apart."
        )
