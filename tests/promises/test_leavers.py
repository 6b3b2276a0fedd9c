"""Someone who was removed from the team, kept the old keys, and writes to the bucket."""

from __future__ import annotations

import io
import os
from typing import Any, NamedTuple

import msgspec
import pytest
from attacks import Forge, Place, refused
from machines import Machine
from teams import Team, follow, fresh, pinned, public

from dorky import errors
from dorky.format import seal
from dorky.format.model import (
    ALL,
    Kind,
    Member,
    Roster,
)
from dorky.keys import vault
from dorky.keys.vault import OpenEpoch, Vault
from dorky.remote import root as roots
from dorky.store.pack import FOOTER, PackWriter, read_footer


class Left(NamedTuple):
    """Cleo was removed; what she had, and what there is now."""

    team: Team
    place: Place
    cleos: Vault

    @property
    def readers(self) -> list[Machine]:
        """Who has seen the removal, and who has the fingerprint that it made."""
        return [self.team.ben, fresh(self.team.ben)]


@pytest.fixture
def left(team: Team, place: Place) -> Left:
    content = {name: os.urandom(90_000) for name in ("a", "b")}
    team.ana.commit(content, "packed")
    team.ana("push")
    for each in (team.ben, team.cleo):
        each("pull")
    with team.cleo.repo() as repo:
        cleos = repo.vault
    team.ana("team", "remove", "cleo")
    team.ana.commit({"c": os.urandom(150_000), ".env": "A=new\n"}, "after")
    team.ana("push")
    team.ben("fetch")
    follow(team.ben, team.ana)
    return Left(team, place, cleos)


def test_a_root_sealed_with_a_retired_key(left: Left) -> None:
    """Cleo copies the header, and writes a body that says that she is a member."""
    header, _ = left.place.parts()
    with left.team.ana.repo() as repo:
        seen = repo.remote().seen
    assert seen
    # Better than she could: she does not know the newest txids.
    root = roots.successor(seen.root, roster=Roster((Member("cleo", (public(left.team.cleo),)),)))
    key = OpenEpoch(ALL, 1, seal.EpochKey(left.cleos.key(ALL)))
    left.place.keep(roots.encode(header, root, Vault(header.repository, [key])))
    retired = key.key.id.hex()
    for each in left.readers:
        refused(each, left.place.remote, errors.CorruptRoot, "retired", retired)
    # Nor does it help that .dorkyrc is from before.
    old = fresh(left.team.cleo)
    old.identity.write_bytes(left.team.ben.identity.read_bytes())
    refused(old, left.place.remote, errors.CorruptRoot, "retired", retired)


def test_a_fork_from_before_the_removal(left: Left) -> None:
    """It goes on from what Cleo has seen, with the old key or with one of her own."""
    with left.team.cleo.repo() as repo:
        seen = repo.remote().seen
        assert seen
        ours = vault.begin_epoch(seen.header, repo.vault, ALL, [public(left.team.ben)])
        root = seen.root
        for _ in range(100):
            root = roots.successor(root)
        readers = left.readers
        for header, opened in ((seen.header, repo.vault), ours):
            left.place.keep(roots.encode(header, root, opened, repo.signer))
            for each in readers:
                refused(each, left.place.remote, errors.WrongKey, pinned(each)[:16])


def located(machine: Machine, *, current: bool) -> list[tuple[str, Any]]:
    """Packs of the remote, written under the newest keys or not, and what lies in them."""
    with machine.repo() as repo:
        epochs = len(repo.header.epochs)
        return [
            (packed.id, at)
            for packed in repo.store.packs("origin")
            if (packed.epochs == epochs) is current
            for at in repo.store.locations(packed.id, remote="origin")
        ]


def patch(place: Place, name: str, offset: int, data: bytes) -> None:
    blob = place.driver.get(f"packs/{name}")
    assert blob
    raw = bytearray(blob.data)
    raw[offset : offset + len(data)] = data
    place.driver.put(f"packs/{name}", bytes(raw))


def test_objects_sealed_anew_under_the_retired_key(left: Left) -> None:
    """The right content by its right id, but from somebody who has no business writing."""
    targets = [each for each in located(left.team.ana, current=True) if each[1].kind.is_data]
    with left.team.ana.repo() as repo:
        for name, at in targets:
            (held,) = repo.store.locate([at.id]).values()
            body = repo.store.open(held)
            data = left.cleos.store(at.kind, at.id, body)
            assert len(data) == at.length
            patch(left.place, name, at.offset, data)
    for each in left.readers:
        before = each.files()
        said = each("pull", code=7)
        assert "was not in use then" in said.error
        assert left.cleos.fingerprint[:16] in said.error
        assert each.files() == before


def test_an_index_sealed_anew_under_the_retired_key(left: Left) -> None:
    with left.team.ana.repo() as repo:
        packs = [p for p in repo.store.packs("origin") if p.epochs == len(repo.header.epochs)]
        for packed in packs:
            blob = left.place.driver.get(f"packs/{packed.id}")
            assert blob
            start_ = read_footer(packed.id, blob.data, packed.size).index_offset
            index = repo.vault.open(blob.data[start_:-FOOTER], "index")
            patch(left.place, packed.id, start_, left.cleos.close(index, "index"))
    refused(fresh(left.team.ben), left.place.remote, errors.CorruptPack, "its tail has another")


def test_what_a_leaver_sealed_does_not_ride_in_a_root(left: Left) -> None:
    """Ana is talked into listing what Cleo has sealed with the old key."""
    with Forge(left.team.ana, left.cleos) as forge:
        forge.publish(forge.commit({ALL: forge.tree(forge.file("gift", b"evil"))}))
    for each in left.readers:
        refused(each, left.place.remote, errors.CorruptObject, "not in use then")


def test_a_pack_that_a_leaver_wrote_after_the_removal(left: Left) -> None:
    buffer = io.BytesIO()
    writer = PackWriter(buffer, left.cleos)
    made = left.cleos.object_id(Kind.CHUNK, b"evil")
    writer.append(Kind.CHUNK, made, left.cleos.store(Kind.CHUNK, made, b"evil"))
    packed = writer.finish()
    left.place.driver.put(f"packs/{packed.id}", buffer.getvalue())
    with left.team.ana.repo() as repo:
        seen = repo.remote().seen
        assert seen
        for epochs, error, why in (
            (packed.epochs, errors.CorruptRoot, "retired"),
            # To say that it is newer than it is does not help, nor that it is from the future.
            (len(seen.header.epochs), errors.CorruptPack, "not in use then"),
            (len(seen.header.epochs) + 1, errors.CorruptRoot, "retired"),
        ):
            listed = msgspec.structs.replace(packed, epochs=epochs)
            root = roots.successor(seen.root, packs=(*seen.root.packs, listed))
            left.place.keep(roots.encode(seen.header, root, repo.vault, repo.signer))
            refused(left.team.ben, left.place.remote, error, why)


def test_an_object_moved_to_another_path(left: Left) -> None:
    """Two files of one size: who writes to the bucket exchanges their bytes, or repeats one."""
    found = [each for each in located(left.team.ana, current=True) if each[1].length > 90_000]
    (name, one), (other, two) = (each for each in found if each[1].length == found[0][1].length)
    assert name == other
    blob = left.place.driver.get(f"packs/{name}")
    assert blob
    pieces = [blob.data[at.offset : at.offset + at.length] for at in (one, two)]
    for first, second in (pieces[::-1], pieces[:1] * 2):
        patch(left.place, name, one.offset, first)
        patch(left.place, name, two.offset, second)
        again = fresh(left.team.ben)
        said = again("pull", code=7)
        assert "is damaged: does not verify" in said.error
        assert again.files() == {}
