"""Commands over the settings: config get, set, unset, list."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from dorky import config as settings
from dorky import errors
from dorky.cli.command import Command, Json
from dorky.cli.output import escaped, say, show_json

app = typer.Typer(no_args_is_help=True, help="Read and change settings.")

Key = Annotated[str, typer.Argument(help="A setting, such as remotes.origin.region.")]
User = Annotated[
    bool, typer.Option("--user", help="In ~/.dorky/config instead of the project's .dorkyrc.")
]


def _config() -> settings.Config:
    from dorky.project import Project

    return settings.Config(Project.root_above(Path()))


def _scope(key: str, user: bool) -> settings.Scope:
    return "user" if user or not settings.describe(key).project else "project"


@app.command("get", cls=Command)
def get(key: Key, json: Json = False) -> None:
    """Print a setting's value.

    \b
    $ dorky config get remotes.origin.url
    """
    found = _config().find(key)
    if found is None:
        raise errors.NotFound(f"{key} is not set", hint=f"dorky config set {key} VALUE")
    if json:
        show_json(found._asdict())
    else:
        say(_text(found.value))


@app.command("set", cls=Command)
def set_(
    key: Key, value: Annotated[str, typer.Argument(help="Its value.")], user: User = False
) -> None:
    """Change a setting. Comments and order in the file are kept.

    \b
    $ dorky config set remotes.origin.region eu-central-1
    $ dorky config set --user user.name "Ana Example"
    """
    parsed, scope = settings.parse(key, value), _scope(key, user)
    with _naming(key, scope):
        _config().set(key, parsed, scope=scope)


@contextlib.contextmanager
def _naming(key: str, scope: settings.Scope) -> Iterator[None]:
    """While a setting is changed that says where a remote is, or with which credentials."""
    from dorky.project import Project

    root = Project.root_above(Path())
    if root is None or scope == "user" or not key.startswith("remotes."):
        yield
        return
    from dorky.repo import Repository

    with Repository(root) as repo, repo.naming(key.split(".")[1]):
        yield
        repo.config.reload()


@app.command("unset", cls=Command)
def unset(key: Key, user: User = False) -> None:
    """Remove a setting.

    \b
    $ dorky config unset remotes.origin.region
    """
    if not _config().unset(key, scope=_scope(key, user)):
        raise errors.NothingToDo(f"{key} is not set there")


@app.command("list", cls=Command)
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Explain every setting there is.")] = False,
    json: Json = False,
) -> None:
    """List the settings in force and where each comes from.

    \b
    $ dorky config list
    """
    if all_ and json:
        show_json(
            [
                {"key": key, "about": each.about, "environment": each.env}
                for key, each in settings.SETTINGS.items()
            ]
        )
        return
    if all_:
        for key, setting in settings.SETTINGS.items():
            say(f"{key}\n    {setting.about}")
            if setting.env:
                say(f"    environment: {setting.env}")
        return
    found = _config().items()
    if json:
        show_json([each._asdict() for each in found])
        return
    for each in found:
        say(f"{each.key} = {_text(each.value)}\t({each.source})")


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else escaped(str(value))
