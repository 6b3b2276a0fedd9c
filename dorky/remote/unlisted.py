"""Unlisted commits: what members have signed and the bucket holds, but no verified root lists.

Whoever repairs a remote learns by them what the last state that was verified may lack. A signature
proves who has made a commit, not that it was ever part of the history: a push that lost its swap
leaves commits, too. So they are reported, and nothing is taken over.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

from dorky import errors
from dorky.drivers.base import Stat
from dorky.format import model
from dorky.format.model import Commit, Kind, MiB, ObjectId, Pack
from dorky.parallel import in_order
from dorky.remote import root as roots
from dorky.remote.root import PACKS, Remote, RootSnapshot
from dorky.store import authorship, pack

_THREADS = 8
_LARGE = 4 * MiB
"""Tails over this are read one at a time."""

Stored = tuple[Kind, ObjectId, bytes]


def commits(remote: Remote, seen: RootSnapshot, refused: bytes) -> dict[ObjectId, Commit]:
    """Return the commits of members that the bucket holds and the local store lacks.

    Small pushes are inline in their root, so those after the last root seen may be lost with it.

    Args:
        remote: The remote; what its last verified root lists is in the local store.
        seen: That root.
        refused: The bytes of the root that was refused: its inline objects are looked at, too.
    """
    store = remote.store
    vault, team = store.vault, store.database.team()
    found: dict[ObjectId, Commit] = {}
    for kind, object_id, stored in itertools.chain(_inline(remote, refused), _packed(remote, seen)):
        if kind is not Kind.COMMIT or object_id in store:
            continue
        with contextlib.suppress(errors.IntegrityError):
            commit = model.decode_commit(vault.read(kind, object_id, stored), object_id)
            if not authorship.signature_fault(vault, team, object_id, commit):
                found[object_id] = commit
    return found


def _inline(remote: Remote, refused: bytes) -> Iterator[Stored]:
    """Yield what rides in a root, if the keys of the last verified one open it."""
    with contextlib.suppress(errors.IntegrityError):
        header, body = roots.read_header(refused, remote.url)
        root = roots.read_body(header, body, remote.store.vault, remote.url)
        yield from ((inlined.kind, inlined.id, inlined.data) for inlined in root.inline)


def _packed(remote: Remote, seen: RootSnapshot) -> Iterator[Stored]:
    """Yield the metadata of packs that the last verified root neither lists nor condemns.

    All are looked into: somebody who can write to the bucket can add any number.
    """
    known = {packed.id for packed in remote.store.packs(remote.name)} | {*seen.root.condemned}
    there = [stat for name, stat in roots.stored(remote.driver).items() if name not in known]

    def read(stat: Stat) -> list[Stored] | None:
        with contextlib.suppress(errors.IntegrityError, errors.KeyNotFound, errors.BadEndpoint):
            return _metadata(remote, stat, most=_LARGE)
        return []

    large: list[Stat] = []
    for stat, found in zip(there, in_order(read, there, threads=_THREADS), strict=True):
        if found is None:
            large.append(stat)
        yield from found or ()
    for stat in large:
        with contextlib.suppress(errors.IntegrityError, errors.KeyNotFound, errors.BadEndpoint):
            yield from _metadata(remote, stat, most=pack.LIMIT) or ()


def _metadata(remote: Remote, stat: Stat, *, most: int) -> list[Stored] | None:
    """Return the metadata of a pack; None if its tail has more bytes than ``most``."""
    key, vault = stat.key, remote.store.vault
    name, size = key.removeprefix(PACKS), stat.size
    if not pack.FOOTER <= size <= pack.LIMIT:
        return []
    footer = pack.read_footer(name, remote.driver.get_range(key, size - pack.FOOTER, size), size)
    if size - footer.tail > most:
        return None
    data = remote.driver.get_range(key, footer.tail, size)
    found: list[Stored] = []
    for epochs in range(vault.epochs, 0, -1) if vault.sealed else (0,):
        with contextlib.suppress(errors.CorruptPack):
            for at in pack.read_tail(Pack(name, size, footer.tail, epochs), data, vault):
                if not at.kind.is_data:
                    start = at.offset - footer.tail
                    found.append((at.kind, at.id, data[start : start + at.length]))
            break
    return found
