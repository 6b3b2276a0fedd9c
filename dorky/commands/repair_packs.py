"""Repair of packs: restore those that git has deleted, and save objects of damaged ones."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dorky import errors, files
from dorky.config import RC
from dorky.format.model import Location, Pack
from dorky.project import FIRST, ORIGIN, Project
from dorky.store import spare
from dorky.store import verify as scrub
from dorky.store.objects import LOCAL, Store
from dorky.store.pack import Check

DAMAGED = "damaged"
"""The directory in the state that damaged packs are moved to."""


class Repairs:
    """The progress of a repair so far."""

    def __init__(self) -> None:
        self.packs = self.objects = self.saved = 0
        self.damaged: list[str] = []
        self.notes: list[str] = []


# --- the second copy ------------------------------------------------------------------------


def bring_back(
    project: Project, repairs: Repairs
) -> tuple[spare.Record | None, dict[spare.Slot, spare.Record]]:
    """Restore what git has deleted, of this project and of work trees that are gone.

    Returns:
        The record of this project's second copy, and the records of the others by slot.
    """
    slot = project.spare
    if slot is None:
        return None, {}
    second: spare.Record | None = None
    try:
        second = spare.find(slot, project.config)
    except errors.BadSpare as error:
        repairs.notes.append(error.message)
    orphans = spare.orphans(slot, project.config)
    if second:
        _drop_damaged(project, slot, repairs)
        if count := spare.bring_packs(slot, project.state):
            packs = f"{count} pack{'s are' if count > 1 else ' is'}"
            repairs.notes.append(f"{packs} back from the second copy in git's directory")
        _restore(project, project.root / RC, second.rc, 0o644)
        _restore(project, project.state / FIRST, second.first, 0o600)
    own = project.config.text("repository.id")
    orphans = {other: found for other, found in orphans.items() if found.repository == own}
    for other in orphans:
        spare.bring_packs(other, project.state)
    return second, orphans


def _drop_damaged(project: Project, slot: spare.Slot, repairs: Repairs) -> None:
    """Delete damaged second copies; move damaged packs aside that have a sound second copy."""
    for path, pack in spare.copies(slot, project.state):
        if not spare.is_sound(path):
            path.unlink()
            repairs.notes.append(f"pack {path.name} was damaged in the second copy")
        elif pack.exists() and not spare.is_sound(pack):
            aside = project.state / DAMAGED
            aside.mkdir(mode=0o700, exist_ok=True)
            pack.rename(aside / pack.name)
            repairs.damaged.append(pack.name)


def _restore(project: Project, path: Path, data: bytes, mode: int) -> None:
    """Write a missing file as the second copy has it."""
    if data and not path.exists():
        files.write_atomic(path, data, mode=mode)
        project.config.reload()


# --- packs ----------------------------------------------------------------------------------


def index_packs(project: Project, directory: Path, repairs: Repairs) -> None:
    """Record the content of packs; save the good objects of damaged ones."""
    store = project.store
    recorded = {packed.id: packed for packed in store.packs()}
    there = scrub.packs_in(directory)
    project.progress.start("Reading packs", sum(path.stat().st_size for path in there), "B")
    gone = recorded.keys() - {path.name for path in there}
    _forget(store, gone)
    repairs.notes += [f"pack {name} is gone" for name in sorted(gone)]
    damaged: list[tuple[Path, list[Location]]] = []
    for path in there:
        repairs.packs += 1
        known = recorded.get(path.name)
        packed, locations = _open(store, path, known)
        check = _check(path)
        wrong = 0
        for scrubbed in scrub.scrub(_told(project, path), locations, store.vault, check.update):
            wrong += scrubbed.error is not None
        whole = check.passes(path.name)
        if packed is None and whole:
            repairs.notes.append(f"pack {path.name} is encrypted with a key that is not known here")
            continue
        if packed is None or wrong or not whole:
            damaged.append((path, locations))
            continue
        repairs.objects += len(locations)
        with store.database.transaction():
            _forget(store, [path.name])
            store.record(LOCAL, packed, locations)
        if known is None:
            # Renew the pack's age, so that users have time to look at work that was just restored.
            os.utime(path)
    project.progress.finish()
    _save(project, damaged, repairs)


def _check(path: Path) -> Check:
    """Return the check of a pack's bytes; one that no bytes pass if it has no footer."""
    with contextlib.suppress(errors.CorruptPack):
        return Check(scrub.footer_of(path)[1])
    return Check(0)


def _told(project: Project, path: Path) -> Iterator[bytes]:
    for block in scrub.blocks_of(path):
        yield block
        project.progress.advance(len(block))


def _open(store: Store, path: Path, known: Pack | None) -> tuple[Pack | None, list[Location]]:
    """Return what a pack holds; if it can't be opened, what the database knew of it."""
    for epochs in (known.epochs, None) if known else (None,):
        with contextlib.suppress(errors.IntegrityError):
            return scrub.index_of(path, store.vault, epochs)
    for where in (LOCAL, ORIGIN):
        if locations := store.locations(path.name, remote=where):
            return None, locations
    return None, []


def _forget(store: Store, names: Iterable[str]) -> None:
    store.retain(LOCAL, {packed.id for packed in store.packs()} - set(names))


def _save(project: Project, damaged: list[tuple[Path, list[Location]]], repairs: Repairs) -> None:
    """Move damaged packs aside, once their good objects are stored elsewhere."""
    if not damaged:
        return
    store = project.store
    aside = project.state / DAMAGED
    with store.writer() as writer, store.database.transaction():
        _forget(store, [path.name for path, _ in damaged])
        for path, locations in damaged:
            blocks = scrub.blocks_of(path)
            for at, stored, error in scrub.scrub(blocks, locations, store.vault):
                if error or store.vault.is_foreign(stored) or writer.holds(at.id):
                    continue
                writer.append(at.kind, at.id, store.vault.renew(at.kind, at.id, stored))
                repairs.saved += 1
        writer.save()
    with files.disk_errors(aside):
        aside.mkdir(mode=0o700, exist_ok=True)
        for path, _ in damaged:
            path.rename(aside / path.name)
            repairs.damaged.append(path.name)
        files.sync_directory(aside)
        files.sync_directory(store.directory)
    repairs.objects += repairs.saved
    store.close()  # the store may have these packs open
