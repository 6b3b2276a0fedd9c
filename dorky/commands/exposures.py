"""Exposures: what a member could read, and so which secrets to change."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterable, Mapping

from dorky import documents, errors
from dorky.commands.inspect import fetch_missing
from dorky.documents import names
from dorky.format import model
from dorky.format.model import Entry, ObjectId
from dorky.project import ORIGIN, Project
from dorky.results import Exposure
from dorky.store import history
from dorky.store.history import MAIN
from dorky.worktree import checkout


def exposures_of_groups(
    project: Project, groups: Collection[str], head: ObjectId | None = None
) -> list[Exposure]:
    """Return what the members of groups can read: files, and the variables in them.

    Args:
        project: The project.
        groups: The groups.
        head: The commit to look at; by default the remote's head as last fetched.
    """
    head = head or project.database.ref(f"{ORIGIN}/{MAIN}")
    trees = history.trees_of(project.store, head, groups)
    return exposures(
        project, {path: [entry] for path, entry in history.files_of(project.store, trees)}
    )


def exposures(project: Project, found: Mapping[str, Iterable[Entry]]) -> list[Exposure]:
    """Return files, and the variables that each of them holds or has held."""
    telling = {
        path: [entry for entry in entries if entry.size < model.MiB]
        for path, entries in found.items()
        if documents.syntax_of(path) == documents.Syntax.DOTENV
    }
    held = itertools.chain.from_iterable(telling.values())
    fetch_missing(project, checkout.needed(project.store, held))
    exposed = []
    for path in sorted(found):
        variables: dict[str, str] = {}
        for entry in telling.get(path, ()):
            data = b"".join(checkout.read(project.store, entry))
            with contextlib.suppress(errors.UsageError):
                variables.update(documents.parse(path, data).items())
        shown = dict.fromkeys(map(names.shown, variables))
        exposed.append(Exposure(path=path, variables=tuple(shown)))
    return exposed
