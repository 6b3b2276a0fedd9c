"""Somebody with everybody's keys, who opens all that a remote has ever held."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from attacks import DIRECTORY

from dorky import errors
from dorky.format import codec, model
from dorky.format.model import Commit, Header, Kind, Pack, Root, Tree
from dorky.keys import age, vault
from dorky.keys.vault import Vault
from dorky.remote import root as roots
from dorky.store import pack

MARKER = re.compile(rb"m\d{5}m")


class Watcher:
    """Opens everything that the remote has ever held, with everybody's keys."""

    def __init__(self, place: Path, people: dict[str, list[age.Identity]]) -> None:
        self.place = place
        self.people = people
        self.holders: dict[bytes, set[str]] = {}
        self.vaults: dict[str, Vault] = {}
        self.bodies: dict[str, bytes] = {}
        self.found: dict[bytes, set[bytes]] = {}
        """By marker, the keys that open an object which holds it."""
        self.header: Header | None = None
        self.root: Root | None = None
        self._data = b""
        self._packs: set[str] = set()
        self._known: set[bytes] = set()

    def look(self) -> None:
        data = (self.place / "root").read_bytes()
        if data != self._data:
            self._data = data
            self._read_root(data)
        held = self.vaults["ana"]
        # A push that was refused may have left a pack that no root lists.
        for path in (self.place / "packs").glob("*"):
            if path.name in self._packs or len(path.name) != 64:
                continue
            self._packs.add(path.name)
            content = path.read_bytes()
            tail, _, _ = pack.read_footer(path.name, content, len(content))
            for epochs in range(held.epochs, 0, -1):  # it may be from before a rotation
                packed = Pack(path.name, len(content), tail, epochs)
                with contextlib.suppress(errors.CorruptPack):
                    for at in pack.read_tail(packed, content[tail:], held):
                        self._open(at.kind, at.id, content[at.offset : at.offset + at.length])
                    break
            else:
                raise AssertionError(f"nobody opens {path}")

    def _read_root(self, data: bytes) -> None:
        header, body = roots.read_header(data, str(self.place))
        if header != self.header:
            self.header = header
            for person, identities in self.people.items():
                with contextlib.suppress(errors.NoKey):
                    opened = vault.unlock(header, identities)
                    self.vaults[person] = opened
                    for key in opened._by_id:
                        self.holders.setdefault(key, set()).add(person)
        self.root = roots.read_body(header, body, self.vaults["ana"], str(self.place))
        for each in self.root.inline:
            self._open(each.kind, each.id, each.data)

    def _open(self, kind: Kind, name: str, stored: bytes) -> None:
        if stored in self._known:
            return
        self._known.add(stored)
        key = stored[:8]
        for opened in self.vaults.values():
            if opened.group_of(stored) is not None:
                body = opened.open(stored, f"{kind.value}\0{name}")
                self.bodies[name] = codec.inflate(body, limit=kind.limit, padded=True)
                for marker in MARKER.findall(self.bodies[name]):
                    self.found.setdefault(marker, set()).add(key)
                return
        raise AssertionError(f"nobody opens {kind} {name}")

    def head(self) -> dict[str, dict[str, bytes]]:
        """The files of the newest commit: by group and path, the content."""
        assert self.root
        commit = model.decode(Commit, self.bodies[self.root.refs["heads/main"]])
        return {group: dict(self._files(tree)) for group, tree in commit.trees.items()}

    def _files(self, tree: str, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        for entry in model.decode(Tree, self.bodies[tree]).entries:
            if entry.mode == DIRECTORY:
                yield from self._files(entry.content, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, self.bodies[entry.content]
