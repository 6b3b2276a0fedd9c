"""Vouching: the rules for signatures, as they apply to a client (see `commands.vouching`)."""

from __future__ import annotations

from collections.abc import Mapping

from dorky import cancellation
from dorky.format.model import ObjectId
from dorky.library.session import Session
from dorky.store.history import Placed


def check(session: Session, found: Mapping[str, Placed], version: str) -> set[str]:
    """Refuse files that are not signed as the rules demand, before any of them is used.

    Args:
        session: The session, which has fetched the history.
        found: The files.
        version: The version that holds them.

    Returns:
        The files that the rules are about: their contents must have the recorded SHA-256.

    Raises:
        Unsigned: Nobody has signed a file.
        BadSignature: Its signatures are not enough.
    """
    if not session.project.config.rules:
        return set()
    from dorky.commands import vouching

    old = vouching.is_old(session.project, version)
    return vouching.check(session.project, found, old=old, fetch=lambda ids: fetch(session, ids))


def fetch(session: Session, ids: set[ObjectId]) -> None:
    """Fetch objects into the session's store."""
    from dorky.remote.fetch import fetch_objects

    with cancellation.holding(session.lock):
        fetch_objects(session.remote, ids)
