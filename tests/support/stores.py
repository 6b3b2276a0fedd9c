"""A store on its own, without a project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dorky.keys.vault import Vault
from dorky.store.database import Database
from dorky.store.objects import Store

NEWER = f"PRAGMA user_version=99; PRAGMA application_id={0x646F7200 + 99}"
"""Makes a database one of a later dorky's."""


@contextmanager
def opened(state: Path, vault: Vault) -> Iterator[Store]:
    """Open an empty store in a new directory."""
    (state / "tmp").mkdir(parents=True)
    database = Database(state / "dorky.db")
    store = Store(state / "packs", state / "tmp", database, lambda: vault)
    try:
        yield store
    finally:
        store.close()
        database.close()
