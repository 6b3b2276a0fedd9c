"""Attackers who know the format: what they put into a bucket, and that it changed nothing."""

from __future__ import annotations

import contextlib
import stat
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from machines import Machine, bucket, driver_of, known, signed
from servers import Remote

from dorky import errors
from dorky.format import model
from dorky.format.model import ALL, Commit, Entry, Header, Inline, Kind, Roster, Tree
from dorky.keys import roster
from dorky.keys.vault import Vault
from dorky.remote import authority
from dorky.remote import root as roots
from dorky.remote.fetch import fetch
from dorky.remote.push import remember
from dorky.store import directories, history

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
FILE, DIRECTORY, LINK = 0o100600, 0o040000, 0o120000
READABLE = stat.S_IFREG | 0o644
COMMANDS: Sequence[Sequence[str]] = (["fetch"], ["pull"], ["team", "list"], ["rotate"])

STEERING = "\x1b\x07\r\x9b\u202e"
"""What a terminal would obey."""
EVIL = "x\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e"


class Place:
    """The bucket, for an attacker who can write to it."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.driver = driver_of(remote)

    @property
    def root(self) -> bytes:
        blob = self.driver.get("root")
        assert blob
        return blob.data

    def parts(self) -> tuple[Header, bytes]:
        return roots.read_header(self.root, "")

    def put(self, header: Header, body: bytes) -> None:
        """Put a header and a body, which need not belong together."""
        self.driver.put("root", assembled(header, body))

    def keep(self, data: bytes) -> None:
        self.driver.put("root", data)


def assembled(header: Header, body: bytes) -> bytes:
    clear = model.encode(header)
    data = struct.pack(">8sI", b"DORKYRT1", len(clear)) + clear + body
    return data + sha256(data).digest()


def everything(machine: Machine) -> object:
    """All that is on a machine, but what is learned by merely looking."""
    rc = (machine.project / ".dorkyrc").read_bytes()
    if not machine.state.exists():
        return machine.files(), rc
    with machine.repo() as repo:
        database = repo.database
        told = [database.get(key) for key in ("header", "roster", "head", "groups")]
        packs = sorted(path.name for path in (machine.state / "packs").glob("*"))
        return machine.files(), rc, known(repo), told, packs


def refused(
    machine: Machine,
    remote: Remote,
    error: type[errors.DorkyError],
    *names: str,
    commands: Iterable[Sequence[str]] = COMMANDS,
) -> None:
    """Every command fails in the same way, says why, and changes neither clone nor bucket."""
    before, there = everything(machine), bucket(remote)
    for command in commands:
        said = machine(*command, code=error.exit_code)
        for name in names:
            assert name in said.error, said
    with machine.repo() as repo, pytest.raises(error):
        repo.fetch()
    assert everything(machine) == before
    assert bucket(remote) == there


class Forge:
    """A member who makes objects for a group, commits of them, and a root that lists them.

    With ``sealer`` the objects are encrypted with keys other than the member's own.
    """

    def __init__(self, machine: Machine, sealer: Vault | None = None) -> None:
        self.machine = machine
        self.sealer = sealer
        self.inline: list[Inline] = []

    def __enter__(self) -> Forge:
        self.stack = contextlib.ExitStack()
        self.repo = self.stack.enter_context(self.machine.repo())
        self.remote = self.repo.remote()
        fetch(self.remote)
        assert self.remote.seen
        self.seen = self.remote.seen
        self.vault: Vault = self.repo.vault
        self.head = self.seen.root.refs["heads/main"]
        self.trees = dict(history.read_commit(self.repo.store, self.head).trees)
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def add(self, kind: Kind, body: bytes, group: str = ALL) -> str:
        held = self.sealer or self.vault
        made = held.object_id(kind, body, group=group)
        self.inline.append(Inline(kind, made, held.store(kind, made, body, group=group)))
        return made

    def tree(self, *entries: Entry, group: str = ALL) -> str:
        ordered = sorted(entries, key=lambda entry: entry.name.encode())
        return self.add(Kind.TREE, model.encode(Tree(tuple(ordered))), group)

    def file(self, name: str, body: bytes, mode: int = FILE, group: str = ALL) -> Entry:
        content = self.add(Kind.CHUNK, body, group)
        return Entry(name, mode, content, len(body), sha256(body).hexdigest())

    def at(self, path: str, body: bytes, mode: int = FILE, group: str = ALL) -> Entry:
        """The entry of the root directory that leads to a file."""
        *above, name = path.split("/")
        found = self.file(name, body, mode, group)
        for directory in reversed(above):
            found = Entry(directory, DIRECTORY, self.tree(found, group=group))
        return found

    def entries(self) -> tuple[Entry, ...]:
        """The root directory of all."""
        return directories.read(self.repo.store, self.trees[ALL], ALL)

    def everybodys(self, *new: Entry) -> str:
        """The tree of all, with entries added to its root, or put in the place of others."""
        names = {entry.name for entry in new}
        return self.tree(*(entry for entry in self.entries() if entry.name not in names), *new)

    def commit(self, trees: dict[str, str], *, without: str = "") -> str:
        held = {group: tree for group, tree in self.trees.items() if group != without}
        made = Commit({**held, **trees}, (self.head,), "Ana", NOW, "a gift")
        return self.add(Kind.COMMIT, model.encode(signed(self.repo, made)))

    def publish(self, head: str = "", **changes: Any) -> None:
        header = changes.pop("header", self.seen.header)
        root = self.seen.root
        changes = {
            "refs": {**root.refs, "heads/main": head or self.head},
            "inline": (*root.inline, *self.inline),
            **changes,
        }
        following, team = roots.successor(root, **changes), None
        if header is not self.seen.header or "roster" in changes:
            # With an entry of the team log, if an administrator can make one.
            with contextlib.suppress(errors.UsageError):
                following, team = authority.amended(self.remote, header, following)
        won = self.remote.swap(header, following)
        assert won
        if team:
            remember(self.remote, won, (), team=team)


def rewrite(machine: Machine, change: Callable[[Roster], Roster]) -> None:
    with Forge(machine) as forge:
        forge.publish(roster=change(forge.seen.root.roster))


def changed(known: Roster, name: str, **fields: Any) -> Roster:
    found = roster.member(known, name)
    return roster.put(known, msgspec.structs.replace(found, **fields))


class RawForge:
    """Makes objects of any content, well formed or not, and a root that lists them."""

    def __init__(self, repo: Any) -> None:
        self.repo = repo
        self.objects: dict[tuple[Kind, str], bytes] = {}

    def add(self, kind: Kind, body: bytes, *, stored: bytes | None = None) -> str:
        object_id: str = self.repo.vault.object_id(kind, body)
        self.objects[kind, object_id] = stored or self.repo.vault.store(kind, object_id, body)
        return object_id

    def chunk(self, body: bytes) -> str:
        return self.add(Kind.CHUNK, body)

    def tree(self, *entries: dict[str, Any] | Entry) -> str:
        """A tree of entries as they are given, which need not be right."""
        return self.add(Kind.TREE, msgspec.json.encode({"entries": entries}))

    def file(self, name: str, body: bytes = b"evil", **more: Any) -> dict[str, Any]:
        entry = {"name": name, "mode": READABLE, "content": self.chunk(body), "size": len(body)}
        return {**entry, **more}

    def commit(self, tree: str, **more: Any) -> str:
        head = self.repo.database.ref("main")
        commit = Commit({"all": tree}, (head,), "Eve", NOW, "a gift")
        fields = {**msgspec.json.decode(model.encode(commit)), **more}
        with contextlib.suppress(model.Malformed):
            commit = signed(self.repo, model.decode(Commit, msgspec.json.encode(fields)))
            fields = {**msgspec.json.decode(model.encode(commit)), **more}
        return self.add(Kind.COMMIT, msgspec.json.encode(fields))

    def publish(self, head: str, refs: dict[str, str] | None = None) -> None:
        remote = self.repo.remote()
        assert remote.seen
        inline = tuple(Inline(*named, stored) for named, stored in self.objects.items())
        root = roots.successor(
            remote.seen.root,
            refs={"heads/main": head, **(refs or {})},
            inline=(*remote.seen.root.inline, *inline),
        )
        won = remote.swap(remote.seen.header, root)
        with remote.remembering(*won):
            pass
