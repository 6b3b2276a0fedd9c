"""Inspection: what a command shows of the local files, the index and the history.

The functions take plain values and return the frozen records of `dorky.results`; they never print.
Paths are repository paths, or absolute.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat as stat_module
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from dorky import errors
from dorky.format.model import SIGNED, Chunk, Commit, Entry, Kind, MiB, ObjectId
from dorky.keys import placement, roster
from dorky.paths import looks_secret, shown
from dorky.progress import SILENT
from dorky.project import ORIGIN, Project
from dorky.results import Change, Diff, FileDiff, FileEntry, LogEntry, Masked
from dorky.store import history, projection
from dorky.store.history import HEAD, MAIN, Difference, Placed
from dorky.store.index import MASKED, Row, mode_of
from dorky.store.projection import View
from dorky.worktree import staging

if TYPE_CHECKING:
    from dorky.keys.teamlog import Team
    from dorky.remote.fetch import Deliver

StrPath = str | os.PathLike[str]

_SHOWN = 10
_FIRST, _BATCH = 4 * MiB, 32 * MiB
"""How many bytes of a large file are fetched at once: few at first, so that they come soon."""
_Noted = tuple[str, list[Masked]]
PARTIAL = "pull.paths"
"""The single value with the paths that pulls are limited to."""


def repository_paths(project: Project, paths: StrPath | Iterable[StrPath]) -> list[str]:
    """Return the repository paths of paths, or of a single one (see `Project.repository_path`)."""
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [project.repository_path(path) for path in several]


def partial(project: Project) -> list[str]:
    """Return the paths that pulls are limited to, as the first pull named them; none for all."""
    return project.database.text(PARTIAL).split("\0") if project.database.get(PARTIAL) else []


def log(
    project: Project,
    revision: str = "HEAD",
    path: StrPath | None = None,
    *,
    limit: int | None = None,
    changes: bool = False,
    signatures: bool = False,
) -> Iterator[LogEntry]:
    """Return the commits that led to a revision, newest first.

    Arguments, results and errors are those of `Repository.log`.
    """
    name = "" if path is None else project.repository_path(path)
    start = history.resolve(project.store, revision)
    found = 0
    refs = project.database.refs()
    team = project.team
    for node in history.ancestors(project.store, [start]):
        if limit is not None and found >= limit:
            return
        if name and not history.touches(project.store, node.commit, name):
            continue
        found += 1
        entry = log_entry(project, node.commit, node.id, refs=refs, team=team)
        if signatures:
            from dorky.store import authorship

            fault = authorship.fault(project.store, team, node.id, node.commit)
            entry = msgspec.structs.replace(entry, fault=fault)
        yield _with_changes(project, entry) if changes else entry
    if name and not found:
        raise errors.PathNotTracked(name, f" anywhere in the history of {revision}")


def log_entry(
    project: Project,
    commit: Commit,
    commit_id: ObjectId,
    changes: tuple[Change, ...] = (),
    *,
    refs: Mapping[str, ObjectId] | None = None,
    team: Team | None = None,
) -> LogEntry:
    """Return what `log` and `show` report of a commit."""
    if refs is None:
        refs = project.database.refs()
    if team is None:
        team = project.team
    return LogEntry(
        id=commit_id,
        parents=commit.parents,
        author=commit.author,
        time=commit.time,
        message=commit.message,
        git=commit.git,
        refs=tuple(ref for ref, held in refs.items() if held == commit_id),
        changes=changes,
        signer=team.names.get(commit.signer, ""),
        key=_fingerprint(commit.signer) if commit.signer in team.names else "",
        original=_original(project, commit, commit_id, team),
    )


def _original(project: Project, commit: Commit, commit_id: ObjectId, team: Team) -> str:
    """Return who had signed a commit that a purge has rewritten; empty if none has."""
    name = team.names.get(commit.meta.get(SIGNED, ""))
    if name is None:
        return ""
    # Anyone can write the annotation. Only a purge in the team log, by the same key, bears it out.
    purges = (
        purge.new
        for _, entry in history.entries(project.store, team.id)
        for purge in entry.purges
        if entry.signer == commit.signer
    )
    rewritten = any(history.is_ancestor(project.store, commit_id, new) for new in purges)
    return name if rewritten else ""


def _fingerprint(signer: str) -> str:
    from dorky.keys import ssh

    return ssh.fingerprint(signer)


def show(project: Project, revision: str = "HEAD") -> LogEntry:
    """Return a commit and the files that it changed against its first parent."""
    commit_id = history.resolve(project.store, revision)
    commit = history.read_commit(project.store, commit_id)
    return _with_changes(project, log_entry(project, commit, commit_id))


def _with_changes(project: Project, entry: LogEntry) -> LogEntry:
    """Return an entry with the files that it changed against its first parent."""
    parent = entry.parents[0] if entry.parents else None
    return msgspec.structs.replace(
        entry,
        changes=changes_between(project, parent, entry.id),
        closed=closed_groups(project, parent, entry.id),
    )


def closed_groups(project: Project, old: ObjectId | None, new: ObjectId | None) -> tuple[str, ...]:
    """Return the groups whose files differ between two commits and that the user can't read."""
    before, after = (
        history.read_commit(project.store, commit).trees if commit else {} for commit in (old, new)
    )
    return tuple(
        roster.name_of(project.roster, group)
        for group in sorted((before.keys() | after.keys()) - project.vault.groups)
        if before.get(group) != after.get(group)
    )


def changes_between(
    project: Project, old: ObjectId | None, new: ObjectId | None
) -> tuple[Change, ...]:
    """Return the files that differ between two commits."""
    return told(projection.differences(view_of(project, old), view_of(project, new)))


def view_of(project: Project, commit: ObjectId | None) -> View:
    """Return the view of a commit: a head by today's roster, an older commit as recorded."""
    names = (MAIN, f"{ORIGIN}/{MAIN}")
    heads = {history.head_of(project.store), *(project.database.ref(name) for name in names)}
    if commit in heads:
        return projection.current(project.store, commit)
    return projection.recorded(project.store, commit)


def placed_files(project: Project, commit: ObjectId | None) -> dict[str, Placed]:
    """Return the files that count in a commit, by path, with their groups."""
    return dict(view_of(project, commit).files())


def committed_entries(project: Project, commit: ObjectId | None) -> dict[str, Entry]:
    """Return the files that count in a commit, by path."""
    return {path: placed.entry for path, placed in placed_files(project, commit).items()}


def masked_entries(project: Project, commit: ObjectId | None) -> tuple[Masked, ...]:
    """Return the entries of the checked-out commit that do not count.

    They are found once and cached.
    """
    known = project.roster
    if commit is None or not known.groups:
        return ()
    about = f"{commit} {' '.join(sorted(project.index.groups))} {placement.claims(known)}"
    try:
        noted = msgspec.json.decode(project.database.get(MASKED) or b'["",[]]', type=_Noted)
    except msgspec.MsgspecError as error:
        raise errors.CorruptDatabase(project.database.path, error) from None
    if noted[0] != about:
        names = {group.id: roster.name_of(known, group.id) for group in known.groups}
        noted = about, []
        for entry in projection.current(project.store, commit, project.index.groups).reported():
            owners = [group.name for group in placement.claimants(known, entry.path)]
            if entry.above:
                owners = [roster.name_of(known, entry.owner or "")]
            tree = names.get(entry.group, entry.group)
            found = Masked(path=entry.path, tree=tree, owners=tuple(owners), above=entry.above)
            noted[1].append(found)
        # This only fills a cache, so it can wait while another command is writing.
        with contextlib.suppress(errors.Locked, errors.ReadOnly, errors.DiskFull):
            project.database.set(MASKED, msgspec.json.encode(noted))
    return tuple(noted[1])


def ls(project: Project, revision: str = "HEAD", path: StrPath | None = None) -> list[FileEntry]:
    """Return the files that a revision holds: all of them, or those at or below a path."""
    commit = history.resolve(project.store, revision)
    found = committed_entries(project, commit)
    if path is not None:
        name = project.repository_path(path)
        found = {kept: found[kept] for kept in staging.tracked(found, [name], f" in {revision}")}
    return [
        FileEntry(path=name, mode=f"{entry.mode:06o}", size=entry.size, content=entry.content)
        for name, entry in found.items()
    ]


def cat(project: Project, revision: str, path: StrPath) -> Iterator[bytes]:
    """Yield the content of a committed file, piece by piece, verified.

    Arguments, results and errors are those of `Repository.cat`.
    """
    name = project.repository_path(path)
    commit = history.resolve(project.store, revision)
    placed = lookup_file(project, revision, name)
    if project.config.rules:
        from dorky.commands import vouching

        if vouching.check(project, {name: placed}, old=vouching.is_old(project, commit)):
            return vouching.exact(content_of(project, name, placed), placed.entry)
    return content_of(project, name, placed)


def content_of(project: Project, name: str, placed: Placed) -> Iterator[bytes]:
    """Yield the content of a committed file, whoever vouches for it, piece by piece, verified."""
    from dorky.worktree import checkout

    group, entry = placed
    store = project.store
    if not store.missing(checkout.needed(store, [entry])):
        return checkout.read(store, entry, group)

    if streams(project, entry):
        return _streamed(project, name, entry, group)

    def fetch(chunks: Collection[ObjectId]) -> None:
        with needing(project, {name: placed}):
            fetch_missing(project, chunks)

    # The beginning of a large file is not kept waiting for its end.
    return checkout.read(store, entry, group, fetch)


def streams(project: Project, entry: Entry) -> bool:
    """Return whether the content of a file passes through without being stored.

    It is a large one, unless ``cache`` keeps all; without a worktree the store is deleted at the
    end, so any that is cut into chunks is.
    """
    from dorky.worktree.ingest import LARGE

    if not stat_module.S_ISREG(entry.mode):
        return False
    if project.has_worktree and (entry.size < LARGE or project.config.cache == "all"):
        return False
    at = project.store.locate([entry.content]).get(entry.content)
    return at is not None and at.kind is Kind.CHUNKS


def _streamed(project: Project, name: str, entry: Entry, group: str) -> Iterator[bytes]:
    """Yield a large file's content, verified. Chunks that arrive are not stored.

    Memory: up to 32 MiB of chunks, and the ranges that they are cut from.
    """
    from dorky.remote.fetch import fetch_objects
    from dorky.store import contents

    store, remote = project.store, project.remote()
    pieces = contents.pieces(store, entry.content)
    size, limit = 0, _FIRST
    project.progress.start("Downloading", entry.size, "B")
    while batch := _batch(pieces, limit):
        ids = {piece.id for piece in batch}
        arrived: dict[ObjectId, tuple[str | None, bytes]] = {}

        def take(object_id: ObjectId, of: str | None, body: bytes) -> None:
            arrived[object_id] = of, body  # noqa: B023 - called before the next batch

        with needing(project, {name: Placed(group, entry)}), project.locked():
            fetch_objects(remote, ids, SILENT, take, ids)
        places = store.locate(ids - arrived.keys())
        for piece in batch:
            if piece.id in places:
                body = store.open(places[piece.id], group=group)
            else:
                of, body = arrived[piece.id]
                if of != group:
                    about = "it is encrypted for another group than what names it"
                    raise errors.CorruptObject(piece.id, about)
            if len(body) != piece.length:
                raise errors.CorruptObject(piece.id, f"{len(body)} bytes, not {piece.length}")
            size += len(body)
            yield body
            project.progress.advance(len(body))
        limit = min(2 * limit, _BATCH)
    project.progress.finish()
    if size != entry.size:
        raise errors.CorruptObject(entry.content, f"{size} bytes, the tree says {entry.size}")


def _batch(pieces: Iterator[Chunk], limit: int) -> list[Chunk]:
    """Take chunks of about so many bytes."""
    found: list[Chunk] = []
    while limit > 0 and (piece := next(pieces, None)):
        found.append(piece)
        limit -= piece.length
    return found


def diff(
    project: Project,
    revisions: Sequence[str] = (),
    paths: StrPath | Iterable[StrPath] = (),
    *,
    staged: bool = False,
    reveal: bool = False,
) -> Diff:
    """Return how files differ: on disk from what is staged, unless something else is asked for.

    Arguments, results and errors are those of `Repository.diff`.
    """
    from dorky.merge import diff
    from dorky.worktree import checkout

    commits = [history.resolve(project.store, revision) for revision in _each(revisions)]
    if len(commits) > (1 if staged else 2):
        raise errors.TooManyRevisions
    old, new, disk = _diff_sides(project, commits, repository_paths(project, paths), staged=staged)
    differing = {
        path: (was, now)
        for path in sorted(old.keys() | new.keys())
        if _content(was := old.get(path)) != _content(now := new.get(path))
    }
    for side in (0, 1):
        compared = {
            path: placed
            for path, both in differing.items()
            if (placed := both[side]) is not None
            and placed.entry.size <= diff.LIMIT
            and not (side and path in disk)
        }
        with needing(project, compared):
            wanted = (placed.entry for placed in compared.values())
            fetch_missing(project, checkout.needed(project.store, wanted))
    last = commits[1] if len(commits) > 1 else history.head_of(project.store)
    return Diff(
        files=tuple(
            _diff_file(project, path, was, now, on_disk=path in disk, reveal=reveal)
            for path, (was, now) in differing.items()
        ),
        closed=closed_groups(project, commits[0], last) if commits else (),
    )


def _diff_sides(
    project: Project, commits: Sequence[ObjectId], names: Sequence[str], *, staged: bool
) -> tuple[dict[str, Placed], dict[str, Placed], set[str]]:
    """Return what each side of a diff holds at the paths, and the paths to read from the disk."""
    if len(commits) > 1:
        old, new = map(functools.partial(placed_files, project), commits)
        chosen = staging.tracked({**old, **new}, names) if names else [*old, *new]
        return _some(old, chosen), _some(new, chosen), set()
    rows = project.index.rows()
    new = {path: staging.placed_of(row, project.vault) for path, row in rows.items()}
    old = new
    if commits and commits[0] != history.head_of(project.store):
        old = placed_files(project, commits[0])
    elif commits or staged:
        old = staging.committed(project.store, project.index, rows)
    chosen = staging.tracked({**old, **new}, names) if names else [*old, *new]
    old, new = _some(old, chosen), _some(new, chosen)
    if staged:
        return old, new, set()
    edited = _diff_unstaged(project, {path: rows[path] for path in new})
    kept = {path: placed for path, placed in new.items() if path not in edited}
    there = {path: placed for path, placed in edited.items() if placed}
    return old, kept | there, set(there)


def mark_sparse(
    project: Project, rows: dict[str, Row], found: Mapping[str, os.stat_result | None]
) -> int:
    """Mark rows as absent whose files a sparse checkout of git has taken away; return how many."""
    missing = [path for path in rows if found[path] is None]
    if not missing:
        return 0
    from dorky.commands import sparse

    left_out = sparse.left_out(project, missing)
    rows.update((path, rows[path]._replace(absent=True)) for path in left_out)
    return len(left_out)


def _diff_unstaged(project: Project, rows: Mapping[str, Row]) -> dict[str, Placed | None]:
    """Return the files on disk that differ from what is staged; None for those that are gone."""
    found: dict[str, Placed | None] = {}
    stats = dict(project.worktree.stats(rows))
    known = dict(rows)
    mark_sparse(project, known, stats)
    for change in staging.unstaged(project.worktree, project.store, project.index, known, stats):
        path = change.path
        stat = None if change.what == "deleted" else stats[path]
        if stat is None:
            found[path] = None
            continue
        entry = Entry(
            path.rpartition("/")[2],
            project.worktree.mode(mode_of(stat), rows[path].mode),
            rows[path].content,
            stat.st_size,
            project.worktree.sha256(path, stat),
        )
        found[path] = Placed(rows[path].group, entry)
    return found


def _diff_file(
    project: Project,
    path: str,
    old: Placed | None,
    new: Placed | None,
    *,
    on_disk: bool,
    reveal: bool,
) -> FileDiff:
    from dorky.merge import diff
    from dorky.worktree import checkout

    def version(placed: Placed | None, *, on_disk: bool) -> diff.Version | None:
        if placed is None:
            return None
        group, entry = placed
        data = None
        if entry.size <= diff.LIMIT:
            if on_disk:
                read = _diff_read(project, path, entry)
            else:
                read = checkout.read(project.store, entry, group)
            data = b"".join(read)
        # Show a keyed id: a SHA-256 reveals a secret, and content ids differ between groups.
        shown = project.vault.object_id(Kind.CHUNK, bytes.fromhex(entry.sha256))[:_SHOWN]
        return diff.Version(entry.mode, entry.size, shown, data)

    secret = looks_secret(path.rpartition("/")[2])
    sides = version(old, on_disk=False), version(new, on_disk=on_disk)
    return diff.compare(path, *sides, secret=secret, reveal=reveal)


def _diff_read(project: Project, path: str, entry: Entry) -> Iterator[bytes]:
    if stat_module.S_ISLNK(entry.mode):
        yield project.worktree.link_target(path)
        return
    from dorky.merge import diff

    with open(project.worktree.open(path), "rb") as file:
        yield file.read(diff.LIMIT)


def lookup_file(project: Project, revision: str, path: str) -> Placed:
    """Return a file of a revision.

    Raises:
        PathNotTracked: The revision holds no such file.
        UsageError: The path is a directory.
    """
    view = view_of(project, history.resolve(project.store, revision))
    if placed := dict(view.files([path])).get(path):
        return placed
    if any(entry.is_tree for entry in history.lookup(project.store, view.trees, path)):
        raise errors.DirectoryNamed(path, revision=revision)
    purge = tombstone_finder(project)(path)
    raise errors.PathNotTracked(path, f" in {revision}", purge=purge, revision=revision)


def tombstone_finder(project: Project) -> Callable[[str], str]:
    """Return a function that gives the message for a user who looks for a purged file."""
    if not project.purges:
        return lambda _: ""
    from dorky.merge import rewrite

    purges = [(rewrite.selector(purge.paths), purge) for purge in reversed(project.purges)]

    def tombstone(path: str) -> str:
        for selects, purge in purges:
            if selects(path):
                why = f": {purge.reason}" if purge.reason else ""
                return f"{purge.author} purged it from all history on {purge.time:%Y-%m-%d}{why}"
        return ""

    return tombstone


def fetch_missing(
    project: Project,
    chunks: Iterable[ObjectId],
    deliver: Deliver | None = None,
    passing: Container[ObjectId] = frozenset(),
) -> None:
    """Fetch the chunks that are missing from the local store (see `fetch_objects`)."""
    missing = project.store.missing(chunks)
    if missing:
        from dorky.remote.fetch import fetch_objects

        try:
            with project.locked():
                fetch_objects(project.remote(), missing, project.progress, deliver, passing)
        except errors.Unavailable as error:
            error.facts["contents"] = "the contents"
            raise


@contextlib.contextmanager
def needing(project: Project, held: Mapping[str, Placed]) -> Iterator[None]:
    """Name the files whose contents only the remote holds in the error of one that is not reached.

    Args:
        project: The project.
        held: The files whose contents are fetched in the block, by path.
    """
    try:
        yield
    except errors.Unavailable as error:
        from dorky.worktree import checkout

        store = project.store
        lacking = [
            path
            for path in sorted(held)
            if store.missing(checkout.needed(store, [held[path].entry]))
        ]
        if lacking:
            error.facts["contents"] = shown(lacking)
        raise


def told(found: Iterable[Difference]) -> tuple[Change, ...]:
    """Return what happened to files, sorted by path."""
    return tuple(
        sorted(
            Change(
                difference.path,
                "added" if not difference.old else "modified" if difference.new else "deleted",
            )
            for difference in found
        )
    )


def _each(revisions: Sequence[str]) -> Iterator[str]:
    """Yield revisions, both ends of a range one by one."""
    for revision in revisions:
        if "..." in revision:
            raise errors.BadRange(revision)
        first, dots, last = revision.partition("..")
        yield first or HEAD
        if dots:
            yield last or HEAD


def _content(placed: Placed | None) -> tuple[str, int] | None:
    """Return what makes two files the same.

    The id of the content can't be compared, since it differs from group to group.
    """
    return (placed.entry.sha256, placed.entry.mode) if placed else None


def _some(placed: Mapping[str, Placed], paths: Iterable[str]) -> dict[str, Placed]:
    return {path: placed[path] for path in paths if path in placed}
