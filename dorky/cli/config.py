"""Commands for settings: config get, set, unset, list."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from dorky import config as settings
from dorky import errors
from dorky.cli.command import Command, Json
from dorky.cli.output import escaped, say, show_json
from dorky.results import SettingInfo, SettingValue

app = typer.Typer(no_args_is_help=True, help="Read and change settings.")

Key = Annotated[str, typer.Argument(help="A setting, such as remotes.origin.region.")]
User = Annotated[
    bool, typer.Option("--user", help="In ~/.dorky/config instead of the project's .dorkyrc.")
]


def _config(scope: settings.Scope = "project") -> settings.Config:
    """Return the settings of the current project; for the user's own, those of no project."""
    from dorky.project import Project

    root = Project.root_above(Path()) if scope == "project" else None
    return Project(root).config if root else settings.Config(None)


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
        raise errors.NotFoundError(
            f"{key} is not set", hint=f"dorky config set {shlex.quote(key)} VALUE"
        )
    if json:
        show_json(SettingValue(**_shown(found)._asdict()))
    else:
        say(_text(_shown(found).value))


@app.command("set", cls=Command)
def set_(
    key: Key,
    value: Annotated[str, typer.Argument(help="Its value.")],
    user: User = False,
    add: Annotated[bool, typer.Option("--add", help="Keep the values that a list has.")] = False,
) -> None:
    """Change a setting. Comments and order in the file are kept.

    \b
    $ dorky config set remotes.origin.region eu-central-1
    $ dorky config set --user user.name "Ana Example"
    $ dorky config set --add safe.directory /srv/app
    """
    scope = _scope(key, user)
    config = _config(scope)
    new = settings.parse(key, value)
    if add:
        if not isinstance(new, list):
            raise errors.UsageError(
                f"{key} has one value", hint=f"dorky config set {key} {shlex.quote(value)}"
            )
        old = config.get(key)
        new = [*dict.fromkeys([*(old if isinstance(old, list) else ()), *new])]
    with _naming(key, scope):
        config.set(key, new, scope=scope)


@contextlib.contextmanager
def _naming(key: str, scope: settings.Scope) -> Iterator[None]:
    """Take a change of a remote's settings for the user's consent to them."""
    from dorky.project import Project

    root = Project.root_above(Path())
    if root is None or scope == "user" or not key.startswith("remotes."):
        yield
        return
    from dorky.commands import setup

    with Project(root) as project, setup.naming(project, key.split(".")[1]):
        yield
        project.config.reload()


@app.command("unset", cls=Command)
def unset(key: Key, user: User = False) -> None:
    """Remove a setting.

    \b
    $ dorky config unset remotes.origin.region
    """
    scope = _scope(key, user)
    if not _config(scope).unset(key, scope=scope):
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
                SettingInfo(key=key, about=setting.about, environment=setting.env)
                for key, setting in settings.SETTINGS.items()
            ]
        )
        return
    if all_:
        for key, setting in settings.SETTINGS.items():
            say(f"{key}\n    {setting.about}")
            if setting.env:
                say(f"    environment: {setting.env}")
        return
    found = [_shown(value) for value in _config().items()]
    if json:
        show_json([SettingValue(**value._asdict()) for value in found])
        return
    for value in found:
        say(f"{value.key} = {_text(value.value)}\t({value.source})")


def _shown(found: settings.Value) -> settings.Value:
    """Return a setting fit to be shown: the environment can hold an address with a password."""
    if settings.exposes(found.key, found.value):
        from dorky.redaction import redacted

        return found._replace(value=redacted(str(found.value)))
    return found


def _text(value: settings.Plain) -> str:
    if isinstance(value, list):
        return escaped(", ".join(value))
    return str(value).lower() if isinstance(value, bool) else escaped(str(value))
