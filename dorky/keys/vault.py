"""The vault: turns bodies into stored objects and back, with a repository's keys.

The stored form of an object in an encrypted repository:

    offset  size  what
    0       8     id of the epoch key that encrypts it
    8       24    nonce
    32      …     XAES-256-GCM of the compressed body, padded (see `codec`)
    end-16  16    tag

with the additional data ``dorky/2 ‖ repository ‖ group ‖ kind ‖ id``, each followed by 0x00. In an
unencrypted repository the stored form is the compressed body alone. Either form is self-contained:
it may be copied between packs without being decrypted.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

import msgspec

from dorky import errors
from dorky.format import codec, model, seal
from dorky.format.model import ALL, DIGITS, FORMAT, Epoch, Header, KiB, Kind, Locked, ObjectId
from dorky.keys import age

_KEY_ID = 8
_STANZAS = 4096  # the most wrapped keys of a header that are decrypted or written
_HEADER = (
    384 * KiB
)  # the most bytes of a header that are written: the rest of a root needs its room
_EPOCHS = 1024  # the most that are written: with the wrapped keys, some 800 KiB of a root
OVERHEAD = _KEY_ID + seal.NONCE + seal.TAG
"""Bytes that encryption adds."""


class OpenEpoch(NamedTuple):
    """The unwrapped key of an epoch; ``at`` is its place among the header's epochs."""

    group: str
    epoch: int
    key: seal.EpochKey
    at: int = 0


class Vault:
    """The unwrapped keys of one repository.

    Args:
        repository: Its id, 32 hex digits.
        opened: Every epoch key that the holder's identity unwraps, in the header's order; empty
            for an unencrypted repository.
        closed: The ids of the keys that it does not unwrap.
    """

    def __init__(
        self, repository: str, opened: Sequence[OpenEpoch], closed: Iterable[bytes] = ()
    ) -> None:
        self.repository = repository
        self._by_id = {entry.key.id: entry for entry in opened}
        self._closed = frozenset(closed)
        self.epochs = len(self._by_id) + len(self._closed)
        """The number of epochs in the header."""
        self._current = {entry.group: entry for entry in opened}
        self._newest = frozenset(entry.key.id for entry in self._current.values())
        self._retired = {
            old.key.id: new.at
            for group in self._current
            for old, new in pairwise(entry for entry in opened if entry.group == group)
        }
        first = {entry.group: entry.key.id_key for entry in reversed(opened)}
        self._id_keys: Mapping[str, bytes] = first
        self._place_keys: dict[str, bytes] = {}
        self._mask_key = seal.derive(first[ALL], "mask") if ALL in first else None

    @property
    def sealed(self) -> bool:
        """Return whether the repository is encrypted."""
        return bool(self._current)

    @property
    def groups(self) -> frozenset[str]:
        """Return the groups whose files these keys can read."""
        return frozenset(self._current) if self.sealed else frozenset({ALL})

    @property
    def fingerprint(self) -> str:
        """Return the commitment to the current epoch's key; empty in an unencrypted repository."""
        return self._current[ALL].key.commitment if self.sealed else ""

    def key(self, group: str) -> bytes:
        """Return a group's newest key, which is to be wrapped again."""
        return self._current[group].key.key

    # --- objects ---------------------------------------------------------------------------

    def object_id(self, kind: Kind, body: bytes, *, group: str = ALL) -> ObjectId:
        """Return an object's id. Each group keys its ids, so other groups can't guess contents."""
        return seal.object_id(kind.value, body, self._id_keys[group] if self.sealed else None)

    def place(self, name: str, *, group: str = ALL) -> str:
        """Return 16 hex digits that decide in which part of a large directory a name lies."""
        if not self.sealed:
            return hashlib.sha256(name.encode()).hexdigest()[:DIGITS]
        key = self._place_keys.get(group)
        if key is None:
            key = self._place_keys[group] = seal.derive(self._id_keys[group], "place")
        return hmac.digest(key, name.encode(), "sha256").hex()[:DIGITS]

    def gear_seed(self, group: str = ALL) -> int:
        """Return the seed that decides where a group's large files are cut."""
        return seal.gear_seed(self._id_keys[group] if self.sealed else None)

    def store(
        self,
        kind: Kind,
        object_id: ObjectId,
        body: bytes,
        *,
        group: str = ALL,
        how: codec.Coding | None = None,
    ) -> bytes:
        """Return the stored form of an object; ``how`` is how it is compressed.

        Raises:
            UsageError: The object is larger than any reader accepts.
        """
        if len(body) > kind.limit:
            raise errors.UsageError(
                f"a {kind.value} of {len(body):,} bytes is too large (at most {kind.limit:,})"
            )
        prefix, packed = codec.compress_apart(body, how or codec.DEFAULT)
        what = f"{kind.value}\0{object_id}"
        if not self.sealed:
            return prefix + packed
        if len(packed) < codec.PADDED:
            return self.close(codec.pad(prefix + packed), what, group=group)
        entry = self._current[group]
        return entry.key.aead.seal_all((prefix, packed), self._aad(group, what), head=entry.key.id)

    def read(
        self,
        kind: Kind,
        object_id: ObjectId,
        stored: bytes | memoryview,
        *,
        epochs: int | None = None,
    ) -> bytes:
        """Decrypt a stored object and verify that it is the one named.

        Args:
            kind: The object's kind.
            object_id: Its id.
            stored: Its stored form.
            epochs: If given, the number of epochs when its pack was written: an object under a key
                that was retired before then, or that began later, is refused.

        Raises:
            CorruptObject: The object was altered, swapped for another, inflates past its stated
                length, or is encrypted with a key that this vault does not hold.
        """
        try:
            packed = self.open(stored, f"{kind.value}\0{object_id}", epochs=epochs)
            body = codec.inflate(packed, limit=kind.limit, padded=self.sealed)
        except (seal.SealBroken, codec.CodecError) as error:
            raise errors.CorruptObject(object_id, error) from None
        group = self.group_of(stored) or ALL
        if self.object_id(kind, body, group=group) != object_id:
            raise errors.CorruptObject(object_id, "its content has another id")
        return body

    def group_of(self, stored: bytes | memoryview) -> str | None:
        """Return the group of a stored object; None if these keys can't decrypt it."""
        if not self.sealed:
            return ALL
        entry = self._by_id.get(bytes(stored[:_KEY_ID]))
        return entry.group if entry else None

    def is_foreign(self, stored: bytes | memoryview) -> bool:
        """Return whether a stored object is for a group that the holder of these keys is not in."""
        return bytes(stored[:_KEY_ID]) in self._closed

    def is_current(self, stored: bytes | memoryview) -> bool:
        """Return whether a stored object is encrypted with its group's newest key."""
        return not self.sealed or bytes(stored[:_KEY_ID]) in self._newest

    def renew(self, kind: Kind, object_id: ObjectId, stored: bytes) -> bytes:
        """Re-encrypt an object if its key has been retired. Its id stays the same.

        Raises:
            CorruptObject: The object is damaged, or for a group that the holder is not in.
        """
        if self.is_current(stored):
            return stored
        what = f"{kind.value}\0{object_id}"
        try:
            return self.close(self.open(stored, what), what, group=self.group_of(stored) or ALL)
        except seal.SealBroken as error:
            raise errors.CorruptObject(object_id, error) from None

    def mask(self, digest: str, content: ObjectId) -> str:
        """Hide or reveal the SHA-256 of a file for the local index (see `seal.mask`)."""
        return seal.mask(digest, content, self._mask_key)

    def as_of(self, epochs: int) -> Vault:
        """Return a vault with the keys of the header's first epochs, as many as are given."""
        opened = [entry for entry in self._by_id.values() if entry.at < epochs]
        return Vault(self.repository, opened, self._closed)

    def with_key(self, entry: OpenEpoch) -> Vault:
        """Return a vault with these keys and one more."""
        return Vault(self.repository, [*self._by_id.values(), entry], self._closed)

    # --- anything --------------------------------------------------------------------------

    def close(self, data: bytes, what: str, *, group: str = ALL) -> bytes:
        """Encrypt bytes under ``group``'s current key, bound to ``what`` they are."""
        if not self.sealed:
            return data
        entry = self._current[group]
        return entry.key.aead.seal(data, self._aad(group, what), head=entry.key.id)

    def open(
        self,
        data: bytes | memoryview,
        what: str,
        *,
        newest: bool = False,
        epochs: int | None = None,
    ) -> bytes:
        """Decrypt what `close` returned.

        Args:
            data: The encrypted bytes.
            what: The same value as for `close`.
            newest: Whether to refuse the keys of past epochs. An object's id binds it to its
                content, whoever encrypted it. A root has no such id, so it must not come from a
                removed member who still has the old key.
            epochs: See `read`.

        Raises:
            SealBroken: The data was altered, or encrypted as something else or with another key.
        """
        if not self.sealed:
            return bytes(data)
        name = bytes(data[:_KEY_ID])
        entry = self._by_id.get(name)
        if entry is None:
            raise seal.SealBroken(f"is encrypted with a key ({name.hex()}) that you don't have")
        retired = self._retired.get(name)
        if newest and retired is not None:
            raise seal.SealBroken(f"is encrypted with a key ({name.hex()}) that has been retired")
        if epochs is not None and not entry.at < epochs <= (epochs if retired is None else retired):
            raise seal.SealBroken(
                f"is encrypted with a key ({name.hex()}) that was not in use then"
            )
        return entry.key.aead.open(data[_KEY_ID:], self._aad(entry.group, what))

    def _aad(self, group: str, what: str) -> bytes:
        return f"dorky/2\0{self.repository}\0{group}\0{what}\0".encode()


# --- headers --------------------------------------------------------------------------------


def create(recipients: Sequence[str], locked: Sequence[Locked] = ()) -> tuple[Header, Vault]:
    """Start a repository encrypted to ``recipients``, or an unencrypted one if there are none."""
    empty = Header(FORMAT, os.urandom(16).hex(), (), tuple(locked))
    if not recipients:
        return empty, Vault(empty.repository, ())
    return begin_epoch(empty, Vault(empty.repository, ()), ALL, recipients)


def begin_epoch(
    header: Header, opened: Vault, group: str, recipients: Sequence[str]
) -> tuple[Header, Vault]:
    """Give a group a new key, its first or the next, wrapped to ``recipients``.

    The new key encrypts the one before it, so a holder of the newest key can open all of them.

    Raises:
        UsageError: The root would have no room for it.
    """
    if len(header.epochs) >= _EPOCHS:
        raise errors.TooManyEpochs(f"{len(header.epochs):,}")
    key = seal.EpochKey(os.urandom(seal.KEY))
    old = header.newest(group)
    number = old.epoch + 1 if old else 1
    made = OpenEpoch(group, number, key, len(header.epochs))
    previous = proof = b""
    if old:
        alone = Vault(header.repository, [made])
        previous = alone.close(opened.key(group), f"previous\0{number}", group=group)
        proof = opened.close(bytes.fromhex(key.commitment), f"next\0{number}", group=group)
    wrapped = age.wrap(key.key, recipients)
    epoch = Epoch(group, number, key.commitment, wrapped, previous, proof)
    epochs = [
        msgspec.structs.replace(listed, wrapped=b"") if listed is old else listed
        for listed in header.epochs
    ]
    following = msgspec.structs.replace(header, epochs=(*epochs, epoch))
    check_room(header, following)
    return following, opened.with_key(made)


def wrap_anew(header: Header, opened: Vault, group: str, recipients: Sequence[str]) -> Header:
    """Wrap a group's newest key to ``recipients``, in place of the recipients before."""
    old = header.newest(group)
    wrapped = age.wrap(opened.key(group), recipients)
    epochs = tuple(
        msgspec.structs.replace(listed, wrapped=wrapped) if listed is old else listed
        for listed in header.epochs
    )
    return msgspec.structs.replace(header, epochs=epochs)


def check_room(before: Header, after: Header) -> None:
    """Refuse to write a header that leaves the rest of a root no room.

    Raises:
        UsageError: It is larger than before, and no keys are removed: that is never refused.
    """

    def measured(header: Header) -> tuple[int, int]:
        wrapped = sum(age.stanzas(epoch.wrapped) for epoch in header.epochs if epoch.wrapped)
        return wrapped, len(model.encode(header))

    (old, before_size), (new, size) = measured(before), measured(after)
    if new > max(old, _STANZAS) or (new >= old and size > max(before_size, _HEADER)):
        raise errors.TooManyKeys(
            "The keys of all groups together are more than a root has room for"
        )


def unlock(
    header: Header,
    identities: Sequence[age.Identity],
    *,
    ask: age.Ask = age.nobody,
    more: Callable[[], Iterable[age.Identity]] = tuple,
    verify: Callable[[Vault], None] = lambda _: None,
) -> Vault:
    """Unwrap a repository's keys.

    The current members are those who can unwrap a group's newest key; each key opens the one
    before it. An epoch's ``previous`` is that earlier key as `Vault.close` encrypts it, as
    ``previous ‖ 0x00 ‖ epoch``.

    Args:
        header: Holds the wrapped keys. Anyone who can write to the bucket can write one.
        identities: The user's.
        ask: Asks for the passphrase of an SSH key.
        more: Returns further identities, for when those don't suffice (see `model.Locked`).
        verify: Gets the keys of `ALL` before any other group's wrapped key is read, and refuses a
            header that no member has written.

    Raises:
        NoKey: None of the identities is among the recipients.
        WrongKey: A key opens but is not the one that its commitment promises.
        CorruptRoot: The header holds more wrapped keys than any writer makes.
    """
    place = f"repository {header.repository[:12]}"
    if sum(age.stanzas(epoch.wrapped) for epoch in header.epochs) > _STANZAS:
        raise errors.CorruptRoot(place, "its header holds more wrapped keys than any writer makes")
    held = list(identities)
    opened: list[OpenEpoch] = []
    closed: list[bytes] = []
    newer: dict[str, Epoch] = {}
    # The group of all members comes first: it decides whether more identities are needed.
    ordered = sorted(
        enumerate(header.epochs), key=lambda numbered: (numbered[1].group != ALL, -numbered[0])
    )
    verified = False
    for at, epoch in ordered:
        if epoch.group != ALL and not verified:
            verify(Vault(header.repository, sorted(opened, key=attrgetter("at"))))
            verified = True
        after = newer.get(epoch.group)
        newer[epoch.group] = epoch
        if after:
            raw = _previous(header, after, opened)
        else:
            raw = age.unwrap(epoch.wrapped, held, ask)
            if raw is None and epoch.group == ALL:
                further = list(more())
                held += further
                raw = age.unwrap(epoch.wrapped, further, ask)
        if raw is None:
            if epoch.group == ALL:
                raise errors.NoKey(", ".join(identity.public for identity in held))
            closed.append(bytes.fromhex(epoch.commitment)[:_KEY_ID])
            continue
        key = seal.EpochKey(raw)
        if len(raw) != seal.KEY or key.commitment != epoch.commitment:
            raise errors.WrongKey(place, key.commitment[:16], epoch.commitment[:16])
        opened.append(OpenEpoch(epoch.group, epoch.epoch, key, at))
    return Vault(header.repository, sorted(opened, key=attrgetter("at")), closed)


def check_succession(
    header: Header, seen: Header, group: str, identities: Sequence[age.Identity], ask: age.Ask
) -> None:
    """Check that a user who can no longer open a group was removed by a member of that group.

    Args:
        header: A header that gives the user no key of the group.
        seen: The header seen before, which perhaps did.
        group: The id of the group.
        identities: The user's.
        ask: Asks for the passphrase of an SSH key.

    Raises:
        WrongKey: The user had the group's key, and the key is the same, or its successor was
            begun without it.
    """
    old = seen.newest(group)
    raw = age.unwrap(old.wrapped, identities, ask) if old else None
    if old is None or raw is None:
        return
    held = Vault(header.repository, [OpenEpoch(group, old.epoch, seal.EpochKey(raw))])
    successors = [e for e in header.epochs if (e.group, e.epoch) == (group, old.epoch + 1)]
    for successor in successors:
        with contextlib.suppress(seal.SealBroken):
            if held.open(successor.proof, f"next\0{successor.epoch}").hex() == successor.commitment:
                return
    found = successors[0].commitment[:16] if successors else "the same, not wrapped to you"
    raise errors.WrongKey(f"repository {header.repository[:12]}", found, old.commitment[:16])


def _previous(header: Header, epoch: Epoch, opened: Sequence[OpenEpoch]) -> bytes | None:
    """Return the key before an epoch's; None if the vault can't open that epoch."""
    held = [key for key in opened if (key.group, key.epoch) == (epoch.group, epoch.epoch)]
    if not held:
        return None
    try:
        return Vault(header.repository, held).open(epoch.previous, f"previous\0{epoch.epoch}")
    except seal.SealBroken:
        raise errors.WrongKey(
            f"repository {header.repository[:12]}", "no key", epoch.commitment[:16]
        ) from None
