"""The user's consent to credentials that `.dorkyrc` would use: a list in ``~/.dorky``.

`.dorkyrc` comes with a git clone. A profile in it runs that profile's ``credential_process``, and
an endpoint in it receives the session token. So each choice is used only after the user has seen
it once.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from dorky import errors, files, ownership
from dorky.config import RC, Choice, Config

FILE = "allowed"
_LIMIT = 1 << 20

Agree = Callable[[Choice], bool]
"""Shows the user a choice, and returns whether the user allows it."""


def allowed(config: Config) -> list[Choice]:
    """Return the choices that the user has allowed.

    Raises:
        BadConfig: The list does not belong to the user, or is malformed.
    """
    try:
        path = config.home / FILE
    except errors.NoHome:
        return []
    try:
        data = files.read_small(path, _LIMIT, owners=config.owners | {ownership.ROOT})
        found = [Choice(*map(str, fields)) for fields in json.loads(data or b"[]")]
    except (ValueError, TypeError, RecursionError) as error:
        raise errors.BadConfig(path, error, file="own") from None
    return found


def allow(config: Config, choice: Choice | None) -> bool:
    """Allow a choice from now on; return False if it is None or allowed already."""
    if choice is None:
        return False
    found = allowed(config)
    if choice in found:
        return False
    path = config.home / FILE
    with files.disk_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_atomic(path, json.dumps([*found, choice], indent=0).encode())
    if os.geteuid() == ownership.ROOT:  # under sudo, in another user's home
        home = path.parent.stat()
        os.chown(path, home.st_uid, home.st_gid)
    return True


def allow_typed(config: Config, choice: Choice | None) -> None:
    """Allow a choice that the user has just typed, if there is a home directory to note it in."""
    with contextlib.suppress(errors.DorkyError):
        allow(config, choice)


def is_missing(config: Config, remote: str) -> bool:
    """Return whether `.dorkyrc` chooses something for a remote that the user has not allowed."""
    choice = config.chosen(remote)
    return choice is not None and choice not in allowed(config)


def check(config: Config, remote: str, agree: Agree | None) -> None:
    """Check that the user allows what `.dorkyrc` chooses for a remote.

    Args:
        config: The project's settings.
        remote: The remote's name.
        agree: Asks the user; None if nobody can be asked.

    Raises:
        NotAllowed: The user does not allow it.
    """
    choice = config.chosen(remote)
    if choice is None or _is_allowed(config, choice):
        return
    if agree is None or not agree(choice):
        where = config.path("project") if config.root else Path(RC)
        raise errors.NotAllowed(
            where,
            described(choice),
            choice.place,
            endpoint=choice.endpoint,
            profile=choice.profile,
        )
    allow_typed(config, choice)


def _is_allowed(config: Config, choice: Choice) -> bool:
    try:
        return choice in allowed(config)
    except errors.SetupError as error:
        if isinstance(error, errors.BadConfig):
            raise
        return False  # no home directory


def described(choice: Choice) -> str:
    """Return a choice in words."""
    parts = []
    if choice.profile:
        parts.append(f"the AWS profile {choice.profile}")
    if choice.endpoint:
        clear = " (not encrypted)" if choice.endpoint.startswith("http://") else ""
        parts.append(f"the server {choice.endpoint}{clear}")
    return " and ".join(parts)
