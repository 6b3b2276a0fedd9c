"""Commands on the cache of clients without a worktree: stats, clear."""

from __future__ import annotations

from typing import Annotated

import typer

from dorky.cli.command import Command, Json
from dorky.cli.output import escaped, note, say, show_json, size
from dorky.results import CacheStats

app = typer.Typer(
    no_args_is_help=True, help="Show or empty the cache of programs that use the library."
)


@app.command("stats", cls=Command)
def stats(json: Json = False) -> None:
    """Show where the cache is, and how much it takes.

    It holds what programs have read of remotes without a worktree, encrypted as it is stored there,
    so that the next one need not fetch it again.

    \b
    $ dorky cache stats
    $ dorky config set --user client_cache_max_size 500000000
    """
    from dorky.commands import client_cache
    from dorky.config import Config

    found = client_cache.stats(Config(None))
    if json:
        show_json(found)
        return
    if found.directory:
        say(escaped(found.directory))
        say(_content(found))
    if found.unusable:
        note(f"Not used: {escaped(found.unusable)}")


@app.command("clear", cls=Command)
def clear(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Delete everything in the cache. Programs fetch again what they need.

    \b
    $ dorky cache clear --dry-run
    $ dorky cache clear
    """
    from dorky.commands import client_cache
    from dorky.config import Config

    config = Config(None)
    found = client_cache.stats(config) if dry_run else client_cache.clear(config)
    if json:
        show_json(found)
        return
    say(f"{'Would delete' if dry_run else 'Deleted'} {_content(found)}")


def _content(found: CacheStats) -> str:
    return (
        f"{found.entries:,} files of {found.repositories} repositories: "
        f"{size(found.size)} of {size(found.max_size)}"
    )
