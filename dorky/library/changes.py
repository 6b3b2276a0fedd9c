"""Changes of single files: each is a commit in the remote. `DorkyClient` has their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dorky import errors
from dorky.library import catalog, commits, contents, uploads
from dorky.library.commits import Change, Delete, Put, Request
from dorky.library.metering import Meter, Report
from dorky.library.outbox import Outbox
from dorky.library.records import CommitInfo, FileInfo, IfVersion, StrPath
from dorky.library.scope import Scope
from dorky.library.sources import Source
from dorky.store.history import Placed


def upload(
    scope: Scope,
    source: Source,
    path: StrPath | None,
    meta: dict[str, str],
    *,
    message: str,
    compress: str,
    level: int | None,
    key: str,
    if_version: IfVersion,
    force: bool,
    alone: bool,
    progress: Report | None,
) -> FileInfo:
    """Upload a file; see `DorkyClient.upload`."""
    session = scope.writable()
    target = uploads.target(source, path)
    expected = catalog.expected(session, [target], if_version, force=force)
    meter = Meter(progress, "upload")
    coding: dict[str, Any] = {"compress": compress, "level": level}
    with Outbox(session) as outbox:
        put = uploads.taken(session, source, target, meta, **coding, meter=meter, outbox=outbox)
        told = message or f"Upload {target}"
        asked: dict[str, Any] = {"expected": expected, "key": key, "alone": alone}
        done = commits.submit(session, Request([put], told, **asked, ahead=outbox.packs))
    meter.finish(target)
    return next(commits.infos(session, [done]))


def set_metadata(
    scope: Scope,
    path: StrPath,
    metadata: Mapping[str, str],
    *,
    replace: bool,
    if_version: IfVersion,
) -> FileInfo:
    """Change a file's metadata; see `DorkyClient.set_metadata`."""
    session = scope.writable()
    where, placed = scope.find(path)
    expected = catalog.expected(session, [where.path], if_version, force=False)
    if if_version is None:
        expected = {where.path: placed}
    meta = catalog.changed_meta(placed.entry.meta, metadata, replace=replace)
    put = Put(where.path, placed, meta)
    request = Request([put], f"Describe {where.path}", expected=expected)
    done = commits.submit(session, request)
    return next(commits.infos(session, [done]))


def delete(
    scope: Scope,
    path: StrPath,
    *,
    recursive: bool,
    missing_ok: bool,
    message: str,
    if_version: IfVersion,
    force: bool,
) -> CommitInfo | None:
    """Delete a file or a directory; see `DorkyClient.delete`."""
    session = scope.writable()
    named = uploads.text_of(path)
    target = catalog.prefix(named) if recursive else catalog.checked(named)
    seen = session.seen or ""
    version = scope.version()
    view = catalog.view_of(session, version)
    if recursive:
        found = [name for name, _ in catalog.listed(view, target, recursive=True)]
    else:
        found = [target] if target in dict(view.files([target])) else []
    if not found:
        if missing_ok:
            return None
        catalog.find(session, view, target, version)
        raise errors.NoSuchFile(target, session.url)
    expected = catalog.expected(session, found, if_version, force=force, seen=seen)
    changes: list[Change] = [Delete(name) for name in found]
    request = Request(changes, message or f"Delete {target or '/'}", expected=expected)
    return catalog.commit_of(session, commits.submit(session, request).commit)


def copy(
    scope: Scope, source: StrPath, target: StrPath, *, if_version: IfVersion, force: bool
) -> FileInfo:
    """Copy a file within a repository; see `DorkyClient.copy`."""
    seen = scope.session.seen or ""
    where, placed = scope.find(source)
    path = catalog.checked(uploads.text_of(target))
    session = scope.writable()
    expected = catalog.expected(session, [path], if_version, force=force, seen=seen)
    put = Put(path, placed, placed.entry.meta)
    request = Request([put], f"Copy {where.path} to {path}", expected=expected)
    done = commits.submit(session, request)
    return next(commits.infos(session, [done]))


def copy_to(
    uploading: Callable[..., FileInfo],
    scope: Scope,
    source: StrPath,
    target: StrPath,
    *,
    if_version: IfVersion,
    force: bool,
) -> FileInfo:
    """Copy a file to another repository, by the ``upload`` of a client of that."""
    where, placed = scope.find(source)
    info = scope.info(where, placed)
    return uploading(
        contents.blocks(contents.Fetched(scope.session), placed),
        catalog.checked(uploads.text_of(target)),
        message=f"Copy {where.path} from {scope.session.url}",
        metadata=info.custom,
        content_type=info.content_type,
        compress=info.compression,
        if_version=if_version,
        force=force,
    )


def move(scope: Scope, source: StrPath, target: StrPath, *, force: bool) -> CommitInfo:
    """Move a file; see `DorkyClient.move`."""
    session = scope.writable()
    seen = session.seen or ""
    where, placed = scope.find(catalog.checked(uploads.text_of(source)))
    path = catalog.checked(uploads.text_of(target))
    expected: dict[str, Placed | None] = {where.path: placed}
    expected |= catalog.expected(session, [path], None, force=force, seen=seen) or {}
    changes: list[Change] = [Delete(where.path), Put(path, placed, placed.entry.meta)]
    if path == where.path:
        changes = []
    request = Request(changes, f"Move {where.path} to {path}", expected=expected)
    return catalog.commit_of(session, commits.submit(session, request).commit)
