"""``trainkit plugins``: which parts are installed, who offers them, and what of it nobody will find."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from trainkit.cli.configured import errors_as_messages, import_from_current_folder
from trainkit.errors import PluginError, UnknownNameError
from trainkit.plugins.catalog import SINGULAR
from trainkit.plugins.installed import Offer, offers, unread
from trainkit.printable import printable


@click.command("plugins", short_help="List what can be named, and who offers it.")
@click.option("--kind", type=click.Choice(list(SINGULAR)), help="Only those of one kind.")
@click.option("--from", "package", metavar="PACKAGE", help="Only those that one installed package offers.")
@click.option("--check", is_flag=True, help="Import each, and say how long that took; exits with 1 if one fails.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(kind: str | None, package: str | None, check: bool, as_json: bool) -> None:
    """List what a configuration and a Trainer can name: callbacks, loggers, strategies, precisions, commands.

    \b
      trainkit plugins
      trainkit plugins --from trainkit-wandb --check
      trainkit plugins --kind callbacks --json

    Nothing is imported without --check: what is installed and not named runs no line.
    """
    with errors_as_messages():
        chosen = [offer for offer in offers() if kind in (None, offer.entry.kind)]
        if package is not None:
            known = {offer.entry.distribution for offer in offers()}
            if package not in known:
                raise UnknownNameError("package", package, known, "trainkit plugins --from")
            chosen = [offer for offer in chosen if offer.entry.distribution == package]
        if check:
            import_from_current_folder()
        rows = [_row(offer, check=check) for offer in chosen]
        lost = unread() if package is None else []
        if as_json:
            click.echo(json.dumps({"plugins": rows, "not_read": lost}, indent=2))
        else:
            _print(rows, lost)
        sys.exit(any(row["status"] == "fails" for row in rows))


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
        "note": offer.problem,
    }
    if check and offer.status not in ("forbidden", "unfit"):
        began = time.perf_counter()
        try:
            entry.load()
        except PluginError as error:
            row |= {"status": "fails", "note": str(error.__cause__ or error)}
        else:
            row |= {"status": row["status"] or "imports"}
        row["import_s"] = round(time.perf_counter() - began, 3)
    return row


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
