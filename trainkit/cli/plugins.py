"""``trainkit plugins``: which parts are installed, who offers them, and what of it nobody will find."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from trainkit.cli.configured import (
    build_words,
    completed_by,
    configuration,
    errors_as_messages,
    import_from_current_folder,
)
from trainkit.errors import PluginError, UnknownNameError, nearest_name
from trainkit.output import say
from trainkit.plugins.catalog import SINGULAR
from trainkit.plugins.consent import normalized
from trainkit.plugins.installed import Offer, offers, unread
from trainkit.printable import printable

if TYPE_CHECKING:
    from trainkit.trainer.explain.explanation import Explanation


@click.command("plugins", short_help="List what can be named, and who offers it.")
@click.option("--kind", type=click.Choice(list(SINGULAR)), help="Only those of one kind.")
@click.option(
    "--from",
    "package",
    metavar="PACKAGE",
    shell_complete=completed_by("packages"),
    help="Only those that one installed package offers.",
)
@click.option("--check", is_flag=True, help="Import each, and say how long that took; exits with 1 if one fails.")
@click.option(
    "--order",
    "hook",
    metavar="HOOK",
    shell_complete=completed_by("hooks"),
    help="Say who is called at a hook of a run, in this order.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@partial(configuration, required=False)
def command(
    kind: str | None,
    package: str | None,
    check: bool,
    hook: str | None,
    as_json: bool,
    config: str | None,
    overrides: tuple[str, ...],
) -> None:
    """List what a configuration and a Trainer can name: callbacks, loggers, strategies, precisions, commands.

    \b
    Examples:
      trainkit plugins
      trainkit plugins --from trainkit-wandb --check
      trainkit plugins --kind callbacks --json
      trainkit plugins --order on_train_batch_end config.yaml

    Nothing is imported without --check and --order: what is installed and not named runs no line. CONFIG is for --order
    alone, which without one tells of a Trainer that was given nothing.
    """
    with errors_as_messages():
        if hook is not None:
            if kind or package or check:
                raise click.UsageError("--order stands alone: --kind, --from and --check are for the list.")
            _print_order(hook, config, overrides, as_json=as_json)
            return
        if config is not None:
            raise click.UsageError(f"{config}: a configuration belongs to --order HOOK.")
        chosen = [offer for offer in offers() if kind in (None, offer.entry.kind)]
        if package is not None:
            package = _installed(package)
            chosen = [offer for offer in chosen if offer.entry.distribution == package]
        if check:
            import_from_current_folder()
            _import_what_all_need()
        rows = [_row(offer, check=check) for offer in chosen]
        lost = unread() if package is None else []
        if as_json:
            click.echo(json.dumps({"plugins": rows, "not_read": lost}, indent=2))
        else:
            _print(rows, lost)
        sys.exit(any(row["status"] == "fails" for row in rows))


def _print_order(hook: str, config: str | None, overrides: Sequence[str], *, as_json: bool) -> None:
    """Print the plugins at one hook of the fit that ``config`` describes, or that of a Trainer by default."""
    # Here, since a run needs torch, for which the list shall not wait.
    from trainkit.hooks import specs

    if hook not in specs.HOOKS:
        raise UnknownNameError("hook", hook, specs.HOOKS, "trainkit plugins --order")
    explained = _explained(config, overrides)
    if explained is None:  # another rank tells
        return
    order = list(explained.hooks.get(hook, ()))
    if as_json:
        click.echo(json.dumps({"hook": hook, "order": order}, indent=2))
        return
    first, _, _ = (inspect.getdoc(getattr(specs, hook)) or "").partition("\n\n")
    say(textwrap.fill(f"{hook}: {' '.join(first.split())}", 80, subsequent_indent="    "))
    for number, name in enumerate(order, 1):
        say(f"{number:>3}  {printable(name)}")
    if not order:
        say("     nobody joins it")


def _explained(config: str | None, overrides: Sequence[str]) -> Explanation | None:
    """Return what a fit is going to do, nothing of which is done; None on all ranks but the first."""
    if config is None:
        from trainkit.testing import TinyData, TinyModule
        from trainkit.trainer import Trainer

        # With a model that has no hooks of its own.
        return Trainer(accelerator="cpu", max_epochs=1).explain(TinyModule(), TinyData())
    run = build_words(config, overrides)
    told = run.trainer.explain(run.module, datamodule=run.datamodule, ckpt_path=run.ckpt_path)
    return told if run.trainer.is_global_zero else None


def _installed(package: str) -> str:
    """Return the name of an installed package that offers something, as its metadata spells it.

    Raises:
        PluginError: If it is not installed, or offers nothing.
    """
    known = {offer.entry.distribution for offer in offers()}
    found = next((each for each in known if normalized(each) == normalized(package)), None)
    if found is not None:
        return found
    installed = set(map(normalized, _names_of_all()))
    others = f"\n    with plugins {', '.join(sorted(known))}"
    if normalized(package) in installed:
        raise PluginError(f"{package} is installed, and offers nothing to trainkit.{others}")
    nearest = nearest_name(package, known) or nearest_name(normalized(package), installed)
    hint = f"\n    did you mean {nearest!r}?" if nearest else ""
    raise PluginError(f"{package} is not installed.{others}{hint}")


def _names_of_all() -> Iterator[str]:
    """Yield the names of all installed packages; one whose metadata cannot be read has none."""
    for each in importlib.metadata.distributions():
        with suppress(Exception):  # in whatever way it is broken
            if each.name:
                yield each.name


def _import_what_all_need() -> None:
    """Import torch and trainkit's base classes, so that no plugin is charged with the time that these take."""
    importlib.import_module("torch")
    importlib.import_module("trainkit.trainer")


def _row(offer: Offer, *, check: bool) -> dict[str, Any]:
    """Return one line of the table, by its columns."""
    entry = offer.entry
    row: dict[str, Any] = {
        "kind": SINGULAR[entry.kind],
        "name": entry.name,
        "distribution": entry.distribution,
        "version": entry.version,
        "target": entry.target,
        "status": offer.status,
        "note": offer.problem or (entry.stands_for and f"stands for {entry.stands_for}"),
    }
    if check and offer.status not in ("forbidden", "unfit", "broken"):
        began = time.perf_counter()
        try:
            entry.load_maker()
        except PluginError as error:
            row |= {"status": "fails", "note": _why(error)}
        else:
            row |= {"status": row["status"] or "imports"}
        row["import_s"] = round(time.perf_counter() - began, 3)
    return row


def _why(error: PluginError) -> str:
    """Return why a part fails, in one line: who offers it stands beside it."""
    cause = error.__cause__
    return str(error).partition("\n")[0] if cause is None else f"{type(cause).__name__}: {cause}"


def _print(rows: list[dict[str, Any]], lost: list[str]) -> None:
    names = [printable(row["name"]) for row in rows]
    sources = [printable(f"{row['distribution']} {row['version']}") for row in rows]
    width, wide = max(map(len, names), default=4), max(map(len, sources), default=4)
    if rows:
        click.echo(f"{'kind':<10} {'name':<{width}}  {'from':<{wide}}  status".rstrip())
    for row, name, source in zip(rows, names, sources, strict=True):
        took = f"{row['import_s'] * 1000:.0f} ms" if row.get("import_s", 0) >= 0.001 else ""
        status = " ".join(filter(None, (row["status"], took)))
        click.echo(f"{row['kind']:<10} {name:<{width}}  {source:<{wide}}  {status}".rstrip())
        if row["note"]:
            click.echo(f"{'':<10} {printable(row['note'])}")
    for line in lost:
        click.echo(f"not read: {printable(line)}", err=True)
