"""Attackers who sign: roots, commits and entries of the team log, made by hand."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import msgspec
from machines import Machine

from dorky.format import model
from dorky.format.model import ALL, Commit, Header, Inline, Kind
from dorky.keys import age, roster, signing, teamlog
from dorky.keys.signing import Signer
from dorky.keys.sshsig import Namespace
from dorky.remote import root as roots
from dorky.store import history

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


class Forge:
    """A root that a person makes by hand, from what their clone has seen."""

    def __init__(self, machine: Machine) -> None:
        with machine.repo() as repo:
            seen = repo.remote().seen
            assert seen
            self.header, self.root, self.vault = seen.header, seen.root, repo.vault
            self.signer, self.team = repo.signer, repo.team
            head = history.read_commit(repo.store, seen.root.refs["heads/main"])
        self.head, self.trees = seen.root.refs["heads/main"], head.trees
        self.inline: list[Inline] = []

    def add(self, kind: Kind, body: bytes) -> str:
        made = self.vault.object_id(kind, body)
        self.inline.append(Inline(kind, made, self.vault.store(kind, made, body)))
        return made

    def commit(
        self, by: Signer | None, *, namespace: Namespace = Namespace.COMMIT, repository: str = ""
    ) -> str:
        """A commit on top of the newest one, which takes away all files."""
        tree = self.add(Kind.TREE, model.encode(model.Tree(())))
        made = Commit({**self.trees, ALL: tree}, (self.head,), "Ana <ana@example>", NOW, "a gift")
        if by:
            made = signing.signed(made, namespace, by, repository or self.header.repository)
        return self.add(Kind.COMMIT, model.encode(made))

    def entry(self, known: roster.Roster, header: Header | None = None, **other: Any) -> str:
        """An entry of the team log, signed by whoever forges."""
        made = teamlog.entry_for(
            self.team, header or self.header, known, time=NOW, refs=self.root.refs
        )
        made = msgspec.structs.replace(made, **other)
        made = signing.signed(made, Namespace.TEAM, self.signer, self.header.repository)
        return self.add(Kind.TEAM, model.encode(made))

    def encode(
        self, *, header: Header | None = None, signer: Signer | None = None, **changes: Any
    ) -> bytes:
        """The bytes of a root that follows the one seen, signed by whoever forges."""
        changes = {"inline": (*self.root.inline, *self.inline), "time": NOW, **changes}
        following = roots.successor(self.root, **changes)
        return roots.encode(header or self.header, following, self.vault, signer or self.signer)


def stranger() -> Signer:
    made = signing.signer(age.generate())
    assert made
    return made
