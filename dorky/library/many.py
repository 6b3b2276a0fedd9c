"""Transfers of many files: batches in which each file fails alone, and whole directories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from stat import S_ISREG

from dorky import errors
from dorky.library import catalog, commits, contents, folders, uploads, vouching
from dorky.library.commits import Change, Delete, Put, Request
from dorky.library.folders import Selects
from dorky.library.metering import Meter, Report
from dorky.library.outbox import Outbox
from dorky.library.records import (
    NOTHING,
    BatchItem,
    BatchResult,
    CommitInfo,
    Snapshot,
    StrPath,
)
from dorky.library.session import Session
from dorky.library.sources import Source
from dorky.parallel import in_order
from dorky.store.history import Placed


def upload(
    session: Session,
    items: Iterable[StrPath | tuple[Source, StrPath]],
    base: str,
    *,
    message: str,
    compress: str,
    force: bool,
    progress: Report | None,
) -> BatchResult:
    """Upload files into a directory, as one commit; the result tells which have failed."""
    given = [item if isinstance(item, tuple) else (item, None) for item in items]
    meter = Meter(progress, "upload", files=len(given))
    view = catalog.view_of(session, session.seen or "")

    def take(item: tuple[Source, StrPath | None]) -> Put:
        path = uploads.target(*item)
        path = catalog.checked(f"{base}/{path}" if base else path)
        meta = catalog.meta_of(NOTHING, "", compress)
        return uploads.taken(session, item[0], path, meta, compress=compress, outbox=outbox)

    told = message or f"Upload {len(given)} files"
    taken: list[Put | Exception] = []
    with Outbox(session) as outbox:
        results = (done for _, done in folders.each(take, given, session.config.max_concurrency))
        for put in folders.settled(session, results):
            taken.append(put)
            if isinstance(put, Put):
                meter.advance(put.path, _size(put))
        puts = [put for put in taken if isinstance(put, Put)]
        held = dict(view.files([put.path for put in puts]))
        wanted = [None if force else {put.path: held.get(put.path)} for put in puts]
        packs = outbox.packs
        requests = [
            Request([put], told, expected=expected, ahead=packs)
            for put, expected in zip(puts, wanted, strict=True)
        ]
        commits.submit_all(session, requests)
        for request in requests:
            if isinstance(request.outcome, Exception):
                outbox.keep_after(request.outcome)
    outcomes = [request.outcome for request in requests]
    made = [outcome for outcome in outcomes if isinstance(outcome, commits.Outcome)]
    infos = {(info.version, info.path): info for info in commits.infos(session, made)}
    left = iter(outcomes)
    found = []
    version = ""
    for (source, named), item in zip(given, taken, strict=True):
        path = item.path if isinstance(item, Put) else str(named or source)
        outcome = next(left) if isinstance(item, Put) else item
        if isinstance(outcome, commits.Outcome):
            version = outcome.commit
            found.append(BatchItem(path=path, info=infos[version, path]))
            meter.finish(path)
        else:
            found.append(BatchItem(path=path, error=outcome))
    return BatchResult(items=tuple(found), version=version)


def download(
    session: Session,
    items: Iterable[StrPath],
    folder: Path,
    newest: str,
    progress: Report | None,
) -> BatchResult:
    """Download files into a directory; the result tells which have failed."""
    given = [*items]
    meter = Meter(progress, "download", files=len(given))
    unfit = folders.in_repositories(catalog.path_in(uploads.text_of(item)) for item in given)

    def find(item: StrPath) -> tuple[catalog.Address, Placed]:
        named = catalog.address(uploads.text_of(item))
        if named.path in unfit:
            raise errors.UnsafePath(f"{named.path!a}, in what git takes for a repository")
        version = named.version or newest
        placed = catalog.find(session, catalog.view_of(session, version), named.path, version)
        vouching.check(session, {named.path: placed}, version)
        return named._replace(version=version), placed

    outcomes: dict[int, BatchItem] = {}
    found: dict[int, tuple[catalog.Address, Placed]] = {}
    for at, (item, done) in enumerate(folders.each(find, given, session.config.max_concurrency)):
        if isinstance(done, Exception):
            outcomes[at] = BatchItem(path=uploads.text_of(item), error=done)
        else:
            found[at] = done
    wanted = [(named.path, placed) for named, placed in found.values()]
    positions = [*found]
    for n, place in folders.write_all(session, folder, wanted):
        at = positions[n]
        named, placed = found[at]
        if isinstance(place, Exception):
            outcomes[at] = BatchItem(path=uploads.text_of(given[at]), error=place)
            continue
        info = catalog.info(session, named.version, named.path, placed)
        outcomes[at] = BatchItem(path=named.path, info=info, local_path=str(place))
        meter.advance(named.path, info.size)
        meter.finish(named.path)
    return BatchResult(items=tuple(outcomes[at] for at in range(len(given))), version=newest)


def checked(result: BatchResult, *, return_exceptions: bool) -> BatchResult:
    """Return a result, if nothing has failed or the caller looks for failures in it.

    Raises:
        BatchError: Something has failed.
    """
    if result.failed and not return_exceptions:
        first = result.failed[0]
        count = f"{len(result.failed)} of {len(result.items)} files"
        error = errors.BatchError(count, first.path, first.error, result=result)
        raise error from first.error
    return result


def upload_folder(
    session: Session,
    folder: Path,
    base: str,
    selects: Selects,
    *,
    delete: bool,
    message: str,
    force: bool,
    progress: Report | None,
) -> CommitInfo:
    """Upload the selected files of a directory, as one commit, whole or not at all."""
    below = f"{base}/" if base else ""
    names = [*folders.walk(folder, selects)]
    view = catalog.view_of(session, session.seen or "")
    there = {
        name
        for name, _ in catalog.listed(view, base, recursive=True)
        if name != base and selects(name[len(below) :])
    }
    gone = there - {below + name for name in names} if delete else set()
    if not names and not gone:
        raise errors.PathNotFound(folder)

    def take(name: str) -> Put:
        return uploads.taken(session, folder / name, below + name, {}, outbox=outbox)

    meter = Meter(progress, "upload", files=len(names))
    changes: list[Change] = []
    with Outbox(session) as outbox:
        for put in folders.settled(
            session, in_order(take, names, threads=session.config.max_concurrency)
        ):
            changes.append(put)
            meter.advance(put.path, _size(put))
        changes += map(Delete, sorted(gone))
        held = dict(view.files([change.path for change in changes]))
        expected = {change.path: held.get(change.path) for change in changes}
        request = Request(
            changes,
            message or f"Upload {len(names)} files to {base or '/'}",
            expected=None if force else expected,
            ahead=outbox.packs,
        )
        done = commits.submit(session, request)
    if names:
        meter.finish(below + names[-1], len(names))
    return catalog.commit_of(session, done.commit)


def _size(put: Put) -> int:
    return put.content.size if isinstance(put.content, contents.Content) else 0


def snapshot(
    session: Session,
    folder: Path,
    version: str,
    selects: Selects,
    *,
    delete: bool,
    dry_run: bool,
    progress: Report | None,
) -> Snapshot:
    """Bring a directory to the selected files of a version."""
    view = catalog.view_of(session, version)
    held = {path: placed for path, placed in view.files() if selects(path)}
    unfit = folders.dangerous(held)
    unfit |= {path for path, placed in held.items() if not S_ISREG(placed.entry.mode)}
    wanted = {path: held[path] for path in sorted(held.keys() - unfit)}
    same = {
        path
        for path, placed in wanted.items()
        if folders.holds(folders.target(folder, path), placed)
    }
    coming = [path for path in wanted if path not in same]
    gone = folders.others(folder, held, selects) if delete else []
    if session.offline:
        _check_local(session, {path: wanted[path] for path in coming})
    if not dry_run:
        vouching.check(session, {path: wanted[path] for path in coming}, version)
        folder.mkdir(parents=True, exist_ok=True)
        files = [(path, wanted[path]) for path in coming]
        total = sum(placed.entry.size for _, placed in files)
        meter = Meter(progress, "download", files=len(files), total=total)
        for at, place in folders.write_all(session, folder, files):
            if isinstance(place, Exception):
                raise place
            meter.advance(coming[at], files[at][1].entry.size)
            meter.finish(coming[at])
        folders.delete(folder, gone)
    return Snapshot(
        local_path=str(folder),
        version=version,
        written=tuple(coming),
        unchanged=tuple(sorted(same)),
        deleted=tuple(gone),
        left_out=tuple(sorted(unfit)),
    )


def _check_local(session: Session, files: Mapping[str, Placed]) -> None:
    """Refuse files that would have to be fetched.

    Raises:
        NotCached: There are such files.
    """
    lacking = [
        path for path, placed in files.items() if not contents.is_local(session, placed.entry)
    ]
    if lacking:
        more = f" and {len(lacking) - 1} more files" if len(lacking) > 1 else ""
        raise errors.NotCached(session.url, f"the content of {lacking[0]}{more}")
