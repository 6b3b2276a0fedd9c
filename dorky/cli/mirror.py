"""The command that copies a repository to another place: mirror."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dorky.cli.command import AcceptRewind, Json
from dorky.cli.output import TerminalProgress, ask, name, opened, plural, say, show_json, size
from dorky.results import Mirror


def mirror(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A remote's name, or a URL.")],
    target: Annotated[
        str, typer.Argument(metavar="DST", help="Where to: likewise. It is empty, or older.")
    ],
    keyless: Annotated[
        bool,
        typer.Option("--keyless", help="Without a key: copy every pack and table that is there."),
    ] = False,
    read_data: Annotated[
        bool,
        typer.Option("--read-data", help="Read what DST has already; replace what is damaged."),
    ] = False,
    accept_rewind: AcceptRewind = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be copied.")
    ] = False,
    json: Json = False,
) -> None:
    """Copy a repository to another place as it is stored.

    Packs, tables and the root are copied without decrypting anything, the root last, and each is
    checked. Run it again at any time: it copies what is missing. DST must be empty or hold an
    earlier state of the same repository; nothing is deleted there.

    \b
    $ dorky mirror origin s3://acme-vault-eu/payments
    $ dorky mirror s3://acme-vault/payments /backup/payments --keyless
    """
    from dorky.commands import mirror as mirrors
    from dorky.project import Project

    project = opened() if Project.root_above(Path()) else None
    try:
        done = mirrors.mirror(
            *(project, source, target),
            keyless=keyless,
            read_data=read_data,
            dry_run=dry_run,
            accept_rewind=accept_rewind,
            progress=TerminalProgress(),
            ask=ask,
        )
    finally:
        if project:
            project.close()
    show_json(done) if json else _show(done)


def _show(done: Mirror) -> None:
    if not (done.packs or done.tables or done.root):
        say(f"{name(done.target)} is up to date.")
        return
    what = f"{plural(done.packs, 'pack')} and {plural(done.tables, 'table')}, {size(done.size)},"
    what = what if done.size else "the root alone"
    say(f"{'Copied' if done.done else 'Would copy'} {what} to {name(done.target)}")
    if done.done and done.time:
        say(f"It holds the state of {done.time:%Y-%m-%d %H:%M} UTC.")
