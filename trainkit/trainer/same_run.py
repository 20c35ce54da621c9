"""Whether all ranks were given the same to do: settings, plugins and versions, compared when a call begins."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from trainkit.errors import RankError
from trainkit.output import warn

if TYPE_CHECKING:
    from trainkit.trainer.call import Call

OF_ONE_RANK = {"default_root_dir", "enable_progress_bar", "enable_model_summary"}
"""Settings that may differ: what a rank shows, and where it would write, which only rank 0 does."""

SHOWING = (
    "trainkit.callbacks.progress_bar",
    "trainkit.callbacks.model_summary",
    "trainkit.callbacks.builtin.fit_report",
)
"""Where plugins are from that only show something, and may be those of one rank alone."""


def require_same_run(call: Call) -> None:
    """Raise `RankError` on every rank if they were given different things to do. Every rank has to call this.

    A plugin of a user may be there for one rank alone, which is told: it exchanges nothing, or waits forever.
    """
    if not call.strategy.is_distributed:
        return
    ranks = call.strategy.ranks.gather((_settings(call), _plugins_of_users(call)))
    differing = [
        f"    {name:<12} "
        + ", ".join(f"{settings.get(name)} on rank {rank}" for rank, (settings, _) in enumerate(ranks))
        for name in ranks[0][0]
        if len({settings.get(name) for settings, _ in ranks}) > 1
    ]
    if differing:
        raise RankError(
            "the ranks were given different things to do:\n" + "\n".join(differing) + "\n"
            "    to do        give all of them the same; what rank 0 alone is to do, ask trainer.is_global_zero"
        )
    for rank, (_, plugins) in enumerate(ranks):
        if plugins != ranks[0][1]:
            warn(
                f"rank {rank} has the plugins {plugins}, and rank 0 has {ranks[0][1]}. One that is on some ranks only "
                "must not log with sync_dist, save, stop or otherwise wait for others: they would not come."
            )
            return


def _settings(call: Call) -> dict[str, str]:
    """Return what must be the same on all ranks, as text, by its name."""
    arguments = call.arguments
    groups = (arguments.stop, arguments.data, arguments.optimization, arguments.output)
    given = {field.name: getattr(group, field.name) for group in groups for field in dataclasses.fields(group)}
    return {
        "call": f"trainer.{call.stage}()",
        "module": type(call.module).__qualname__,
        **{name: repr(value) for name, value in given.items() if name not in OF_ONE_RANK},
        "strategy": call.strategy.name,
        "precision": call.precision.name,
        "devices": str(len(call.strategy.devices)),
        "plugins": ", ".join(_own_plugins(call)),
        **{f"version of {name}": version for name, version in _versions(call).items()},
    }


def _own_plugins(call: Call) -> list[str]:
    """Return the names of the plugins of trainkit that may wait for other ranks, in their order."""
    found = [(name, type(plugin).__module__) for name, plugin in call.registry.plugins]
    return [name for name, module in found if module.startswith("trainkit.") and not module.startswith(SHOWING)]


def _plugins_of_users(call: Call) -> list[str]:
    """Return the names of all other plugins, in their order."""
    plugins = call.registry.plugins
    return [name for name, plugin in plugins if not type(plugin).__module__.startswith("trainkit.")]


def _versions(call: Call) -> dict[str, Any]:
    """Return the versions of the packages that take part, as far as they tell them."""
    packages = {type(plugin).__module__.partition(".")[0] for _, plugin in call.registry.plugins}
    found = {name: getattr(sys.modules.get(name), "__version__", None) for name in {"trainkit", "torch", *packages}}
    return {name: str(version) for name, version in sorted(found.items()) if version is not None}
