"""The cache: which of the contents that the remote holds are kept in the local store, too.

The content of a large file lies in the worktree and in the remote. A third copy, in the local
store, saves fetching it again for an `undo` or a `restore`, and is not kept by default.

Only contents that a ref of the last root seen reaches may go. What exists nowhere else stays:
contents that are staged, not pushed, or only in a backup or in the operation log.
"""

from __future__ import annotations

import stat as stat_module
from collections.abc import Collection, Iterable, Mapping

from dorky.format import chunk
from dorky.format.model import Kind, ObjectId
from dorky.paths import looks_secret
from dorky.project import ORIGIN, Project
from dorky.store import contents, history
from dorky.store.history import MAIN, Placed
from dorky.store.index import Row
from dorky.store.objects import PackedObject
from dorky.worktree.ingest import LARGE, store_files


def _limit(project: Project) -> int | None:
    """Return the size from which contents need not be kept; None if all are kept.

    A remote without conditional writes can lose a push, so its clones keep everything.
    """
    kept = project.config.cache
    if kept == "all" or ORIGIN not in project.config.remotes():
        return None
    if project.config.single_writer(ORIGIN):
        return None
    return LARGE if kept == "small" else chunk.WHOLE + 1


def _is_secret(path: str) -> bool:
    return looks_secret(path.rpartition("/")[2])


def passing(project: Project, files: Mapping[str, Placed]) -> set[ObjectId]:
    """Return the chunks of files to write that need not be stored when they arrive.

    They are those of large files of the remote's newest commit.
    """
    limit = _limit(project)
    head = project.database.ref(f"{ORIGIN}/{MAIN}")
    large = {
        placed.entry.content
        for path, placed in files.items()
        if limit is not None
        and placed.entry.size >= limit
        and stat_module.S_ISREG(placed.entry.mode)
        and not _is_secret(path)
    }
    if not large or head is None:
        return set()
    store = project.store
    named = list(history.files_of(store, history.trees_of(store, head)))
    large &= {entry.content for _, entry in named}
    large -= {entry.content for path, entry in named if _is_secret(path)}
    others = {placed.entry.content for placed in files.values()} - large
    return contents.chunks_known(store, large) - contents.chunks_known(store, others)


def drop(project: Project, pushed: Collection[ObjectId]) -> int:
    """Delete the local copies of large files that were just pushed; return their size in bytes.

    Args:
        project: The project; its lock is held.
        pushed: The lists of chunks that the push has uploaded.
    """
    limit = _limit(project) if pushed else None
    if limit is None:
        return 0
    from dorky.commands import gc
    from dorky.store import reachability

    rows = project.index.rows().values()
    large = {row.content for row in rows if row.size >= limit and stat_module.S_ISREG(row.mode)}
    large &= set(pushed)
    large -= {row.content for row in rows if _is_secret(row.path)}
    seen = project.remote().seen if large else None
    if seen is None:
        return 0
    store = project.store
    reached = reachability.reach(store, seen.root.refs.values()).contents
    large &= reached
    own = reachability.reach(store, *reachability.named(store)).contents
    kept = (own - reached) | ({row.content for row in rows} - large)
    chunks = contents.chunks_known(store, large) - contents.chunks_known(store, kept)
    there = store.locate(chunks, remote=ORIGIN).items()
    saved = gc.shed(project, {object_id for object_id, at in there if at.kind is Kind.CHUNK})
    project.index.note_remote_only(contents.lacking(store, large))
    return saved


def to_download(project: Project, *, all_history: bool = False) -> int:
    """Return how many bytes of contents must be fetched before all can be re-encrypted.

    Args:
        project: The project.
        all_history: Whether old revisions are re-encrypted, too.
    """
    store = project.store
    heads = [head] if (head := project.database.ref(f"{ORIGIN}/{MAIN}")) else []
    commits = [node.id for node in history.ancestors(store, heads)] if all_history else heads
    wanted = {
        entry.content
        for commit in commits
        for _, entry in history.files_of(store, history.trees_of(store, commit))
    }
    missing = store.missing(contents.chunks_known(store, wanted))
    return sum(at.length for at in _listed(project, missing).values())


def restore(project: Project) -> bool:
    """Store the contents of files again that are neither here nor in the remote any more.

    Their files in the worktree hold them: what is read gets the id that its bytes have.

    Returns:
        Whether anything was stored.
    """
    lost = [row for row in project.index.rows().values() if _is_lost(project, row)]
    return _keep(project, lost)


def secure(project: Project, rows: Iterable[Row]) -> None:
    """Store the contents of files before they are replaced, unless they are stored somewhere.

    The remote may have lost what it held.
    """
    _keep(project, [row for row in rows if _is_lost(project, row)])


def _is_lost(project: Project, row: Row) -> bool:
    if row.absent or row.size <= chunk.WHOLE or row.group not in project.vault.groups:
        return False
    missing = project.store.missing(contents.chunks_known(project.store, [row.content]))
    return bool(missing - _listed(project, missing).keys())


def _listed(project: Project, ids: Collection[ObjectId]) -> dict[ObjectId, PackedObject]:
    return project.store.locate(ids, remote=ORIGIN)


def _keep(project: Project, rows: Collection[Row]) -> bool:
    groups = {row.path: row.group for row in rows}
    sizes = {}
    for row in rows:
        stat = project.worktree.stat(row.path)
        if stat is not None and stat_module.S_ISREG(stat.st_mode):
            sizes[row.path] = stat.st_size
    if not sizes:
        return False
    with project.store.writer() as writer:
        for _ in store_files(
            project.worktree, sizes, writer, project.store, lambda path: groups[path]
        ):
            pass
        return bool(writer.save())
