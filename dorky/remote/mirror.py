"""Mirror: copy a repository to another place as it is stored, without decrypting anything.

Packs and tables come first and the root last, so the copy is a whole repository at any time. Each
file is checked against its name on the way, which needs no key. So a copy that was interrupted goes
on with the files that are missing.

Only a key tells whether one root follows another. For copies that are made without one,
``PREFIX/copied`` names the roots that were copied there, by their hashes, the newest last.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from dorky import errors
from dorky.drivers.base import Blob, Driver, Version, refusal
from dorky.drivers.retry import pause
from dorky.format.model import Header, KiB, MiB, Root
from dorky.parallel import in_order
from dorky.progress import Progress
from dorky.remote import cold
from dorky.remote import root as roots
from dorky.remote.listing import Moved, packs_of
from dorky.remote.root import KEY, PACKS, TABLES, Remote
from dorky.store import pack, table
from dorky.store.verify import BLOCK

COPIED = "copied"
"""The key of the list of roots that were copied to a place."""
_REMEMBERED = 1000
_COPIED_LIMIT = 128 * KiB
_THREADS = 4
_LARGE = 64 * MiB
"""Files over this are copied one at a time: each is held in memory whole."""
_TABLE_LIMIT = 1 << 31
_TRIES = 5
_AMBIGUOUS = (errors.PreconditionFailed, errors.ServerBusy, errors.Unreachable)
"""Answers to a swap that leave open whether it took effect."""


class File(NamedTuple):
    """A pack or a table: its key in the bucket, and its size in bytes."""

    key: str
    size: int

    @property
    def name(self) -> str:
        """Return the hash that names it."""
        return self.key.partition("/")[2]


class State(NamedTuple):
    """One state of the source.

    Attributes:
        data: The root's bytes.
        version: Its version in the store.
        header: Its header.
        root: Its body; None without a key.
        files: The packs and tables to copy.
    """

    data: bytes
    version: Version
    header: Header
    root: Root | None
    files: tuple[File, ...]


# --- the source -----------------------------------------------------------------------------


def listed(remote: Remote) -> State:
    """Return the state of a remote, verified with the user's key, and the files that it lists.

    Raises:
        Moved: It lists a file that is gone because the root has moved on.
        Rewound: It is older than what this user on this machine has seen.
        ForgedRoot: It was not written by a member who may.
    """
    seen, data = cold.verified(remote)
    files = [File(TABLES + entry.id, entry.size + table.FOOTER) for entry in seen.root.tables]
    files += [File(PACKS + packed.id, packed.size) for packed in packs_of(remote, seen)]
    return State(data, seen.version, seen.header, seen.root, tuple(files))


def stored(driver: Driver) -> State:
    """Return the state of a place, and all packs and tables that it stores; this needs no key.

    Raises:
        Moved: The root moved on while the files were listed.
        NoRepositoryAtURL: The place holds no repository.
    """
    blob = root_of(driver)
    if blob is None:
        raise errors.NoRepositoryAtURL(driver.url)
    header, _ = roots.read_header(blob.data, driver.url)
    files = tuple(File(key, size) for key, size in _sizes(driver).items())
    # What a root lists is there before the root is, and goes only after the next one.
    if driver.get(KEY, unless=blob.version, limit=roots.LIMIT) is not None:
        raise Moved
    return State(blob.data, blob.version, header, None, files)


def _sizes(driver: Driver) -> dict[str, int]:
    """Return the sizes of the packs and tables that a place stores, by key."""
    stats = (roots.stored(driver, folder).values() for folder in (TABLES, PACKS))
    return {stat.key: stat.size for folder in stats for stat in folder}


def root_of(driver: Driver) -> Blob | None:
    """Return the root of a place; None if it has none."""
    try:
        return driver.get(KEY, limit=roots.LIMIT)
    except errors.KeyNotFound:
        return None


# --- the target -----------------------------------------------------------------------------


def check_target(
    state: State, blob: Blob | None, remote: Remote, target: Driver, copied: Sequence[str]
) -> None:
    """Check that the target is empty, or holds an earlier state of the same repository.

    Args:
        state: The state of the source.
        blob: The root of the target; None if it has none.
        remote: The source.
        target: The driver of the target.
        copied: The roots that were copied to the target (see `copied_to`).

    Raises:
        CorruptRoot: The target's root is damaged or forged.
        CopyOfAnother: The target holds another repository.
        CopyIsNewer: The target has a later state than the source.
        CopyDiverged: The target has changes that the source lacks.
        CopyUnknown: Without a key, nothing tells whether the target is older.
    """
    if blob is None or blob.data == state.data:
        return
    header, body = roots.read_header(blob.data, target.url)
    if header.repository != state.header.repository:
        found, wanted = header.repository[:12], state.header.repository[:12]
        raise errors.CopyOfAnother(target.url, found, remote.url, wanted)
    ours, theirs = (
        [(epoch.group, epoch.commitment) for epoch in one.epochs] for one in (state.header, header)
    )
    if ours[: len(theirs)] != theirs:
        newer = theirs[: len(ours)] == ours
        kind = errors.CopyIsNewer if newer else errors.CopyDiverged
        raise kind(target.url, remote.url)
    if state.root is None:
        _check_copied(state.data, blob.data, copied, remote.url, target.url)
        return
    vault = remote.unlock(state.header).as_of(len(theirs))
    held = roots.read_body(header, body, vault, target.url, verify=True)
    if not roots.follows(held, state.root):
        newer = roots.follows(state.root, held)
        kind = errors.CopyIsNewer if newer else errors.CopyDiverged
        raise kind(target.url, remote.url)


def _check_copied(ours: bytes, theirs: bytes, copied: Sequence[str], source: str, url: str) -> None:
    new, old = _hash(ours), _hash(theirs)
    if old not in copied:
        raise errors.CopyUnknown(url, source)
    if new in copied and copied.index(new) < copied.index(old):
        raise errors.CopyIsNewer(url, source)


def copied_to(target: Driver) -> tuple[str, ...]:
    """Return the hashes of the roots that were copied to a place, the newest last."""
    with contextlib.suppress(errors.KeyNotFound, errors.TooLarge):
        if blob := target.get(COPIED, limit=_COPIED_LIMIT):
            return tuple(re.findall(r"[0-9a-f]{64}", blob.data.decode("ascii", "replace")))
    return ()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def missing(files: Iterable[File], target: Driver, *, read: bool, progress: Progress) -> list[File]:
    """Return the files that a place lacks, or holds with another size.

    Args:
        files: The files.
        target: The driver of the place.
        read: Whether to read those that it has, and to return the damaged ones, too.
        progress: Receives the progress of reading.
    """
    there = _sizes(target)
    lacking: list[File] = []
    held: list[File] = []
    for file in files:
        (held if there.get(file.key) == file.size else lacking).append(file)
    if not read:
        return lacking

    def sound(file: File) -> bool:
        try:
            end = target.get_range(file.key, max(0, file.size - pack.FOOTER), file.size)
            _check(file, _blocks(target, file), end)
        except (errors.IntegrityError, errors.KeyNotFound, errors.BadEndpoint):
            return False
        return True

    progress.start("Checking", sum(file.size for file in held), "B")
    checked = in_order(sound, held, threads=_THREADS, ahead=_THREADS)
    for file, good in zip(held, checked, strict=True):
        if not good:
            lacking.append(file)
        progress.advance(file.size)
    progress.finish()
    return lacking


# --- copying --------------------------------------------------------------------------------


def copy(source: Driver, target: Driver, files: Sequence[File], progress: Progress) -> None:
    """Copy packs and tables, each checked against its name. Those that are sound are all copied.

    Memory: four files of at most 64 MiB, or a single larger one.

    Raises:
        Moved: A file is gone from the source; its argument is the key.
        CorruptPack: A pack of the source is damaged.
        CorruptTable: A table of the source is damaged.
    """
    wrong: list[errors.IntegrityError] = []

    def work(file: File) -> errors.IntegrityError | None:
        try:
            data = _whole(source, file)
        except errors.IntegrityError as error:
            return error
        target.put(file.key, data)
        return None

    progress.start("Copying", sum(file.size for file in files), "B")
    for large in (False, True):
        some = [file for file in files if (file.size > _LARGE) == large]
        threads = 1 if large else _THREADS
        for file, error in zip(
            some, in_order(work, some, threads=threads, ahead=threads), strict=True
        ):
            wrong += [error] if error else []
            progress.advance(file.size)
    progress.finish()
    if wrong:
        raise wrong[0]


def _whole(source: Driver, file: File) -> bytes:
    most = pack.LIMIT if file.key.startswith(PACKS) else _TABLE_LIMIT
    if not 0 < file.size <= most:
        raise _damaged(file, f"{file.size:,} bytes")
    try:
        data = source.get_range(file.key, 0, file.size)
    except errors.KeyNotFound:
        raise Moved(file.key) from None
    except errors.BadEndpoint:
        # The same endpoint has just returned a root, so the file is too short.
        raise _damaged(file, f"its {file.size:,} bytes can't be read") from None
    _check(file, (data[at : at + BLOCK] for at in range(0, len(data), BLOCK)), data[-pack.FOOTER :])
    return data


def _blocks(driver: Driver, file: File) -> Iterator[bytes]:
    for start in range(0, file.size, BLOCK):
        yield driver.get_range(file.key, start, min(start + BLOCK, file.size))


def _check(file: File, blocks: Iterable[bytes], end: bytes) -> None:
    """Check that a file's bytes are those that its name stands for."""
    if file.key.startswith(PACKS):
        footer = pack.read_footer(file.name, end, file.size)
        sound = pack.is_whole(file.name, blocks, footer.tail)
    else:
        sound = table.name_of(end, blocks) == file.name
    if not sound:
        raise _damaged(file, "its bytes have another hash")


def _damaged(file: File, why: str) -> errors.IntegrityError:
    kind = errors.CorruptPack if file.key.startswith(PACKS) else errors.CorruptTable
    return kind(file.name, why)


def put_root(
    state: State,
    target: Driver,
    expected: Version | None,
    copied: Sequence[str],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Put the root of a state into a place that has all its files, by compare-and-swap.

    Args:
        state: The state.
        target: The driver of the place.
        expected: The version of the root to replace; None if there is none.
        copied: The roots that were copied to the place before.
        sleep: Waits, for tests.

    Raises:
        MissingPack: The place lacks one of the files.
        RootMoved: Somebody else has written the place's root.
        SwapsUnsupported: The store refuses to replace the root.
        Unavailable: The store gives no answer; doing all of it again is safe.
    """
    there = _sizes(target)
    for file in state.files:
        if there.get(file.key) != file.size:
            raise errors.MissingPack(file.name, target.url)
    digest = _hash(state.data)
    # It is written first: a root that it does not name could not be replaced without a key.
    lines = (*(one for one in copied if one != digest), digest)[-_REMEMBERED:]
    target.put(COPIED, "".join(f"{line}\n" for line in lines).encode())
    for attempt in range(_TRIES):
        try:
            target.swap(KEY, state.data, expected=expected)
            return
        except _AMBIGUOUS as error:
            failure = error
        found: Blob | None = None
        with contextlib.suppress(errors.Unavailable):
            found = root_of(target)
            if found and found.data == state.data:
                return
            if (found.version if found else None) != expected:
                raise errors.RootMoved(target.url, during="mirror")
        sleep(pause(0.2 * 2**attempt))
    if isinstance(failure, errors.PreconditionFailed) and found:
        raise errors.SwapsUnsupported(target.url, refusal(found.version))
    raise failure
