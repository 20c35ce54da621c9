"""The registry of plugins. pluggy holds, orders and blocks their hooks; this adds names, plugin stages and checks.

Within one hook, plugins are called by stage (setup, modify, module, observe, decide, persist), and within a stage in
the order in which they were registered. pluggy's ``tryfirst`` and ``trylast`` go before and after all of these.
"""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, get_args

import pluggy
from pluggy import HookimplOpts

import trainkit
import trainkit.hooks.specs as specs
from trainkit.errors import HookError, PluginError, TrainkitError, UnknownNameError, note_on
from trainkit.hooks.attribution import described, origin
from trainkit.hooks.bound import BoundHooks, no_op
from trainkit.hooks.dispatch import Unfinished, arguments_of, bind
from trainkit.hooks.implementations import find_implementations, refuse_methods_of_modules
from trainkit.hooks.order import asks_of, check_order
from trainkit.hooks.specs import HOOKS, hookspec
from trainkit.hooks.timing import HookTimer
from trainkit.hooks.unbindable import owner_name
from trainkit.origin import module_of

PluginStage = Literal["setup", "modify", "module", "observe", "decide", "persist"]
"""When a plugin is called within one hook: ``setup`` prepares, ``modify`` changes weights or batches, ``module`` is the
user's own `TrainModule`, ``observe`` looks on (loggers, progress bars), ``decide`` stops or steers, ``persist``
saves."""

STAGES: tuple[PluginStage, ...] = get_args(PluginStage)
"""In the order of their calls."""


class HookManager:
    """The plugins of one Trainer.

    A plugin is an object, a class or a Python module with functions that are named after hooks. It may have a ``stage``
    (default ``"observe"``), a ``name``, names of others in ``runs_before`` and ``runs_after``, which are checked
    (`trainkit.hooks.order`), and a ``state_key`` if it has a ``state_dict``. Every change takes effect at the next call
    of a hook. One that raises an error changes nothing.

    Attributes:
        hooks: The functions that the loops call; the same object at all times.
        timing: Seconds and calls by plugin and hook, once enabled.
    """

    def __init__(self) -> None:
        self.hooks = BoundHooks()
        self.timing = HookTimer(on_enable=self._bind)
        self._registry = _Registry(hookspec.project_name)
        self._registry.add_hookspecs(specs)
        self._members: list[_Member] = []  # in the order of their calls
        self._places = itertools.count()
        self._run: tuple[object, object] | None = None  # trainer and module, while hooks are bound to them
        self._unfinished: Unfinished = {}  # by hook, what its newest call has yet to call

    def register(self, plugin: object, *, name: str | None = None) -> str:
        """Add a plugin and return its name.

        The name is ``name``, else the plugin's own ``name`` if that is a plain attribute, else that of its class,
        numbered if it is taken. A plugin whose name is blocked stays out.

        Raises:
            HookError: If one of its hooks cannot be bound.
            PluginError: If it is no plugin, it or its name is registered already, or it or another is called in an
                order in which it cannot work.
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
        """Remove the plugins ``old`` and add ``new`` at once. Those of ``old`` that are not registered are skipped.

        In the order of calls, the first of ``new`` takes the place of the first of ``old``, and so on.
        """
        removed = [member for plugin in old if (member := self._find(plugin)) is not None]
        members = [member for member in self._members if member not in removed]
        places = iter([member.place for member in removed])
        for plugin in new:
            # Checked against those that stay and those added so far: a new plugin may have the name of a removed one.
            member = self._admit(plugin, None, members, place=next(places, None))
            if not self._registry.is_blocked(member.name):
                members.append(member)
        self._arrange(members)

    def is_registered(self, plugin: object) -> bool:
        """Return whether a plugin, given itself or its name, is registered."""
        return self._find(plugin) is not None

    @property
    def plugins(self) -> list[tuple[str, object]]:
        """Names and plugins in the order in which they are called."""
        return [(member.name, member.plugin) for member in self._members]

    def order(self, hook: str) -> list[str]:
        """Return the names of the plugins that join ``hook``, in the order of their calls: wrappers first."""
        if hook not in HOOKS:
            raise UnknownNameError("hook", hook, HOOKS)
        return [impl.plugin_name for impl in self._registry.calls(hook)]

    def remaining(self, hook: str) -> list[str]:
        """Return the names of the plugins that the running call of ``hook`` has yet to call; none outside of one."""
        return [attribution.name for *_, attribution in copy.copy(self._unfinished.get(hook, iter(())))]

    def call_only(self, hook: str, names: Collection[str], values: Mapping[str, Any]) -> list[str]:
        """Call ``hook`` on those of its plugins that have these names, in their order.

        Args:
            hook: The hook. It must not be an around-hook.
            names: Names of plugins. Those that do not join it are skipped.
            values: The arguments that there are, by name, apart from trainer and module.

        Returns:
            The names of the plugins that were not called because they ask for another argument.
        """
        assert self._run is not None, "hooks are called while they are bound to a trainer and a module"
        there = {"trainer", "module", *values}
        callable_: list[pluggy.HookImpl] = []
        left_out: list[pluggy.HookImpl] = []
        for impl in self._registry.calls(hook):
            if impl.plugin_name in names and not impl.wrapper:
                request = arguments_of(impl, hook, self._run[1])
                has_all = there.issuperset([*request.by_position, *request.by_name])
                (callable_ if has_all else left_out).append(impl)
        call = bind(hook, callable_, *self._run, self.timing, self._unfinished)
        call(*(values.get(argument) for argument in HOOKS[hook][2:]))
        return [impl.plugin_name for impl in left_out]

    def block(self, name: str) -> None:
        """Remove the plugin of this name, and ignore every later `register` of one."""
        self._arrange([member for member in self._members if member.name != name])
        self._registry.set_blocked(name)

    def attach(self, trainer: object, module: object) -> BoundHooks:
        """Bind all hooks to a trainer and the module it runs, which joins them as a plugin at the stage ``module``."""
        self.detach()
        self._unfinished.clear()  # an exception may have left one unfinished
        # Not admitted like other plugins: a module never clashes, since its name is one that is free, and its state is
        # that of the checkpoint itself. What its hooks ask for is checked all the same, by `_Member`.
        name = _free_name(type(module).__name__, self._members)
        self._arrange([*self._members, _Member(module, name, "module", next(self._places))])
        self._run = (trainer, module)
        self._bind()
        return self.hooks

    def detach(self) -> None:
        """Unbind all hooks from trainer and module. Until the next `attach` they call no plugin."""
        if self._run is None:
            return
        _, module = self._run
        self._run = None
        self._arrange([member for member in self._members if member.plugin is not module])
        self._bind()

    def _admit(self, plugin: object, name: str | None, others: list[_Member], place: int | None = None) -> _Member:
        """Return the member for a plugin that is to join ``others``. Raises if anything is wrong; changes nothing."""
        try:
            return self._examine(plugin, name, others, place)
        except Exception as error:
            # Not an error of ours: a property or ``__getattr__`` of the plugin raised it when it was looked at.
            if not isinstance(error, TrainkitError):
                note_on(error, f"while {owner_name(plugin)} was registered as a plugin")
            elif isinstance(error, HookError):
                _tell_of_package(error, plugin)
            raise

    def _examine(self, plugin: object, name: str | None, others: list[_Member], place: int | None) -> _Member:
        # A string, None, a list: a slip. Classes and modules are of builtin types too, and are plugins.
        if type(plugin).__module__ == "builtins" and not inspect.isclass(plugin) and not inspect.ismodule(plugin):
            raise PluginError(f"{plugin!r} is no plugin. Give an object that has methods named after hooks.")
        stage = getattr(plugin, "stage", "observe")
        if stage not in STAGES:
            raise UnknownNameError("plugin stage", str(stage), STAGES, where=f"{owner_name(plugin)}.stage")
        refuse_methods_of_modules(plugin)
        given_name = name or _own_name(plugin)
        member = _Member(
            plugin,
            given_name or _free_name(owner_name(plugin), others),
            stage,
            next(self._places) if place is None else place,
        )
        for other in others:
            _refuse_clash(member, other)
        return member

    def _find(self, plugin: object) -> _Member | None:
        # By identity: plugins of users may compare equal, or not be comparable at all.
        for member in self._members:
            if member.plugin is plugin or (isinstance(plugin, str) and member.name == plugin):
                return member
        return None

    def _names(self) -> list[str]:
        return [member.name for member in self._members]

    def _arrange(self, members: list[_Member]) -> None:
        """Make ``members`` the registered plugins, each at its place, and bind the hooks that this changes."""
        before = self._members
        members = sorted(members, key=lambda member: (STAGES.index(member.stage), member.place))
        try:
            self._sync(members)
            check_order(members, self._registry.calls)
        except TrainkitError:
            self._sync(before)
            raise
        except pluggy.PluginValidationError as error:
            # All else that pluggy refuses has been refused by `find_implementations`, with a better message. Left is a
            # decorator that gave a function a signature that is not its own.
            self._sync(before)
            raise HookError(str(error)) from error
        # Those that stay keep their order among each other, so only hooks of those that came or went are bound anew.
        self._bind({hook for member in {*before} ^ {*members} for hook in member.hooks})

    def _sync(self, members: list[_Member]) -> None:
        """Make pluggy hold exactly ``members``, in this order.

        pluggy calls the plugin first that was registered last. So they are registered from the last to the first, and
        an insertion in the middle means to register again all that are called before it.
        """
        pairs = zip(reversed(self._members), reversed(members), strict=False)
        num_kept = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] is pair[1], pairs))
        split = len(members) - num_kept
        # What pluggy holds at each moment, in case it refuses one of those that follow.
        self._members = members[split:]
        for member in self._registry.get_plugins().difference(self._members):
            self._registry.unregister(member)
        for member in reversed(members[:split]):
            self._registry.register(member, member.name)
        self._members = members

    def _bind(self, hooks: Iterable[str] = HOOKS) -> None:
        """Set the functions of ``hooks`` anew: those of the run, or no-ops where there is none."""
        for hook in hooks:
            if self._run is None:
                self.hooks.rebind(hook, no_op(hook))
            else:
                impls = self._registry.calls(hook)
                call = bind(hook, impls, *self._run, self.timing, self._unfinished)
                if self.timing.enabled and self.timing.samples(hook):
                    plain = bind(hook, impls, *self._run, None, self._unfinished)
                    call = self.timing.choose(hook, plain, call)
                self.hooks.rebind(hook, call)
                if hook == "on_train_batch_end":
                    requests = [arguments_of(impl, hook, self._run[1]) for impl in impls]
                    self.hooks.asks_for_outputs = any("outputs" in names for request in requests for names in request)


class _Member:
    """A registered plugin. pluggy gets this object in its place, which shows it the plugin's hooks and nothing else.

    So plugins may compare equal, be unhashable, or have properties; pluggy never touches them.

    Attributes:
        plugin: The plugin.
        name: Its name in this manager.
        stage: Its plugin stage.
        place: A number that orders the plugins of one stage.
        asks: Ahead of which others it has to be called, or behind which.
        options: What pluggy is told of each implementation, by the attribute of this object that holds it.
        hooks: The names of the hooks it joins.
    """

    __slots__ = ("__dict__", "asks", "hooks", "name", "options", "place", "plugin", "stage")

    def __init__(self, plugin: object, name: str, stage: PluginStage, place: int) -> None:
        self.plugin = plugin
        self.name = name
        self.stage = stage
        self.place = place
        self.asks = asks_of(plugin)
        self.options: dict[str, HookimplOpts] = {}
        self.hooks: set[str] = set()
        for attribute, function, options in find_implementations(plugin):
            # With a prefix, since `hookimpl(specname=...)` allows a method of any name, such as ``stage``.
            setattr(self, f"hook_{attribute}", function)
            self.options[f"hook_{attribute}"] = options
            self.hooks.add(options["specname"] or attribute)

    def __dir__(self) -> Iterable[str]:
        """Return the attributes that pluggy examines."""
        return self.options


class _Registry(pluggy.PluginManager):
    """pluggy, which asks each member for its hooks instead of looking for them."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> HookimplOpts | None:
        assert isinstance(plugin, _Member)
        return plugin.options.get(name)

    def calls(self, hook: str) -> list[pluggy.HookImpl]:
        """Return the implementations of ``hook`` in the order of their calls."""
        caller: pluggy.HookCaller = getattr(self.hook, hook)
        # pluggy lists them from the last to the first, with wrappers at the end.
        return caller.get_hookimpls()[::-1]


def _own_name(plugin: object) -> str | None:
    """Return the plugin's own ``name`` if that is a plain string; None if it has none.

    A property called ``name`` is something else: that of loggers is the name of a folder.
    """
    name = inspect.getattr_static(plugin, "name", None)
    return name if isinstance(name, str) and name else None


def _free_name(base: str, others: list[_Member]) -> str:
    taken = {other.name for other in others}
    numbered = (base if number == 1 else f"{base}-{number}" for number in itertools.count(1))
    return next(name for name in numbered if name not in taken)


def _refuse_clash(new: _Member, old: _Member) -> None:
    """Raise if two plugins are one object, or have the same name."""
    if new.plugin is old.plugin:
        raise PluginError(f"this {owner_name(new.plugin)} is registered already: {old.name!r}. Add another instance.")
    if new.name == old.name:
        raise PluginError(
            f"two plugins are named {new.name!r}: {described(old.plugin)} and {described(new.plugin)}. "
            "Give one of them another name."
        )


def _tell_of_package(error: HookError, plugin: object) -> None:
    """Note which package a plugin is of that cannot be bound: its author, and not who names it, can mend that."""
    own = module_of(plugin)
    where = origin(plugin)
    if where != own and not own.startswith("trainkit."):
        note_on(
            error,
            f"    offered by   {where}; it may have been made for another version than trainkit "
            f"{trainkit.__version__}: try a newer or an older one of it",
        )
