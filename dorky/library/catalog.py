"""The catalogue: which files a version holds, and what is known of each."""

from __future__ import annotations

import mimetypes
import re
import stat as stat_module
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from dorky import errors
from dorky.format.codec import DEFAULT
from dorky.format.model import ObjectId
from dorky.library.records import ABSENT, CommitInfo, FileInfo, IfVersion
from dorky.library.session import Session
from dorky.project import ORIGIN
from dorky.store import contents, history, projection
from dorky.store.history import MAIN, Node, Placed
from dorky.store.objects import batches
from dorky.store.projection import View

_ID = re.compile(r"([0-9a-f]{64}):(.+)", re.DOTALL)
_VERSION = re.compile(r"[0-9a-f]{64}")
_TYPE, _CODEC, _CUSTOM = "content-type", "compression", "custom."
_PAGE = 500
_MOST = 8 * 1024
_UNKNOWN = "application/octet-stream"
# Not those of the machine: a type must be the same for everybody.
_TYPES = mimetypes.MimeTypes(filenames=())


class Address(NamedTuple):
    """A path, and the version that an id names with it."""

    version: str
    path: str


def address(path: object, version: str = "") -> Address:
    """Return the version and the path that a caller names, by a path or by an id.

    Raises:
        UnstorablePath: It is no path of a repository.
        UsageError: It names another version than ``version``.
    """
    text = str(path)
    if found := _ID.fullmatch(text):
        if version and version_of(version) != found[1]:
            raise errors.UsageError(f"{text[:20]}… names another version than {version[:12]}")
        return Address(found[1], checked(found[2]))
    return Address(version_of(version) if version else "", checked(text))


def path_in(text: str) -> str:
    """Return the path in a path, or in an id of a file; neither is checked."""
    found = _ID.fullmatch(text)
    return found[2] if found else text


def version_of(text: str) -> str:
    """Return the version in a version, or in the id of a file.

    Raises:
        UnknownRevision: It is none.
    """
    version = text.partition(":")[0]
    if not _VERSION.fullmatch(version):
        raise errors.UnknownRevision(text)
    return version


def checked(path: str) -> str:
    """Return a path, if it is one.

    Raises:
        UnstorablePath: It is absolute, or has an empty part, ``.`` or ``..``.
    """
    if any(part in {"", ".", ".."} for part in path.split("/")):
        raise errors.UnstorablePath(ascii(path), "a path is relative, without empty parts, . or ..")
    return path


def prefix(path: str) -> str:
    """Return the directory that a caller names; empty for all files."""
    path = path.rstrip("/") if path != "/" else path
    return checked(path) if path else ""


# --- metadata -------------------------------------------------------------------------------


def meta_of(
    custom: Mapping[str, str], content_type: str = "", compression: str = DEFAULT.name
) -> dict[str, str]:
    """Return what an entry notes of a file.

    Raises:
        BadMetadata: It is no text, or more than 8 KiB.
    """
    found = {_TYPE: content_type} if content_type else {}
    if compression != DEFAULT.name:
        found[_CODEC] = compression
    for name, value in custom.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise errors.BadMetadata(ascii(name), "names and values are text")
        found[_CUSTOM + name] = value
    try:
        size = sum(len(name.encode()) + len(value.encode()) for name, value in found.items())
    except UnicodeEncodeError:
        raise errors.BadMetadata("a text", "it is not UTF-8") from None
    if size > _MOST:
        raise errors.BadMetadata(f"{size:,} bytes", f"there is room for {_MOST:,}")
    return found


def custom_of(meta: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's own metadata in what an entry notes."""
    return {
        name.removeprefix(_CUSTOM): value
        for name, value in meta.items()
        if name.startswith(_CUSTOM)
    }


def changed_meta(
    meta: Mapping[str, str], custom: Mapping[str, str], *, replace: bool
) -> dict[str, str]:
    """Return what an entry notes, with other metadata of the caller's."""
    own = {} if replace else custom_of(meta)
    return meta_of({**own, **custom}, meta.get(_TYPE, ""), meta.get(_CODEC, DEFAULT.name))


# --- files ----------------------------------------------------------------------------------


def known(session: Session, version: str) -> str:
    """Return a version, after a look at the remote if it is not known yet.

    Raises:
        UnknownRevision: There is no such version.
    """
    if version not in session.store:
        session.refresh(force=True)  # somebody has just told the caller of it
    if version not in session.store:
        raise errors.UnknownRevision(version)
    return version


def view_of(session: Session, version: str) -> View:
    """Return what a version holds: the newest one by today's roster, others as recorded.

    Raises:
        UnknownRevision: There is no such version.
    """
    store = session.store
    if version:
        known(session, version)
    if not version or version == session.project.database.ref(f"{ORIGIN}/{MAIN}"):
        return projection.current(store, version or None, objects=session.nodes)
    return projection.recorded(store, version, objects=session.nodes)


def find(session: Session, view: View, path: str, version: str) -> Placed:
    """Return a file.

    Raises:
        NoSuchFile: The version holds none at this path.
        IsADirectory: The path is a directory.
    """
    if found := dict(view.files([path])).get(path):
        return found
    if any(entry.is_tree for entry in history.lookup(view.store, view.trees, path)):
        raise errors.IsADirectory(path)
    where = f"{session.url}, version {version[:12]}" if version else session.url
    raise errors.NoSuchFile(path, where)


def expected(
    session: Session,
    paths: Iterable[str],
    if_version: IfVersion,
    *,
    force: bool = False,
    seen: str | None = None,
) -> dict[str, Placed | None] | None:
    """Return what paths must hold for a change to be made; None if that does not matter.

    Args:
        session: The session.
        paths: The paths.
        if_version: The version that the caller expects, if any.
        force: Whether nothing is expected without one.
        seen: The version that the caller had seen when the call began, if that was noted.
    """
    paths = [*paths]
    if if_version is ABSENT:
        return dict.fromkeys(paths)
    if force and if_version is None:
        return None
    version = session.seen or "" if seen is None else seen
    if if_version is not None:
        version = version_of(str(if_version))
    held = dict(view_of(session, version).files(paths))
    return {path: held.get(path) for path in paths}


def listed(view: View, directory: str, *, recursive: bool) -> Iterator[tuple[str, Placed | None]]:
    """Yield the files at or below a directory, sorted; without ``recursive``, those in it, and the
    directories in it (None)."""
    if not recursive:
        here: dict[str, Placed | None] = dict(view.files([directory])) if directory else {}
        yield from sorted((here | view.listing(directory)).items(), key=lambda item: item[0])
        return
    below = f"{directory}/" if directory else ""
    for path, placed in sorted(view.files(), key=lambda item: item[0]):
        if path == directory or path.startswith(below):
            yield path, placed


def infos(
    session: Session,
    version: str,
    found: Iterable[tuple[str, Placed | None]],
    origins: Mapping[str, Node] | None = None,
    *,
    details: bool = True,
) -> Iterator[FileInfo]:
    """Yield what is known of files, and of directories (None), page by page.

    Args:
        session: The session.
        version: The version that holds them.
        found: The paths and the files.
        origins: The commits that changed them last, as far as they are known.
        details: Whether to look up that commit, and the stored size, which cost most.
    """
    for page in batches(found, _PAGE):
        files = {path: placed for path, placed in page if placed}
        sizes = _stored_sizes(session, files.values()) if details else {}
        wanted = set(files) - (origins or {}).keys()
        changed = {**(changes(session, version, wanted) if details else {}), **(origins or {})}
        for path, placed in page:
            if placed is None:
                yield FileInfo(path=path, version=version, kind="directory")
            else:
                size = sizes.get(placed.entry.content, 0)
                yield _info(session, version, path, placed, size, changed.get(path))


def _info(
    session: Session, version: str, path: str, placed: Placed, size: int, last: Node | None
) -> FileInfo:
    entry = placed.entry
    kind: Literal["file", "link"] = "link" if stat_module.S_ISLNK(entry.mode) else "file"
    guessed = _TYPES.guess_type(path)[0] or _UNKNOWN
    return FileInfo(
        path=path,
        version=version,
        kind=kind,
        size=entry.size,
        content_hash=entry.sha256,
        stored_size=size,
        compression=entry.meta.get(_CODEC, DEFAULT.name),
        content_type=entry.meta.get(_TYPE, "inode/symlink" if kind == "link" else guessed),
        last_updated=last.commit.time if last else None,
        uploaded_by=signer_of(session, last) if last else "",
        custom=custom_of(entry.meta),
    )


def info(session: Session, version: str, path: str, placed: Placed) -> FileInfo:
    """Return what is known of a file."""
    return next(infos(session, version, [(path, placed)]))


def signer_of(session: Session, node: Node) -> str:
    """Return the member who has signed a commit."""
    return session.project.team.names.get(node.commit.signer, node.commit.author)


def _stored_sizes(session: Session, files: Iterable[Placed]) -> dict[ObjectId, int]:
    """Return the bytes that contents take where they are stored."""
    store, remote = session.store, session.remote.name
    pieces = contents.below(store, {placed.entry.content for placed in files})
    wanted = {piece for held in pieces.values() for piece in held}
    lengths = {each: at.length for each, at in store.locate(wanted).items()}
    rest = wanted - lengths.keys()
    lengths |= {each: at.length for each, at in store.locate(rest, remote=remote).items()}
    return {
        content: sum(lengths.get(piece, 0) for piece in held) for content, held in pieces.items()
    }


def changes(session: Session, version: str, paths: Collection[str]) -> dict[str, Node]:
    """Return the newest commit up to a version that changed each path."""
    store, left = session.store, set(paths)
    found: dict[str, Node] = {}
    if not left:
        return found
    if len(left) == 1:
        (path,) = left
        nodes = history.ancestors(store, [version])
        last = next((n for n in nodes if history.touches(store, n.commit, path)), None)
        return {path: last} if last else {}
    for node in history.ancestors(store, [version]):
        if not left:
            break
        here = history.trees_of(store, node.id)
        parents = [history.trees_of(store, parent) for parent in node.commit.parents] or [{}]
        touched = left.copy()
        for before in parents:
            touched &= {each.path for each in history.differences(store, before, here)}
        found |= dict.fromkeys(touched, node)
        left -= touched
    return found


def commit_info(session: Session, node: Node) -> CommitInfo:
    """Return what is known of a commit."""
    return CommitInfo(
        version=node.id,
        parents=node.commit.parents,
        time=node.commit.time,
        author=signer_of(session, node),
        message=node.commit.message,
    )


def commit_of(session: Session, commit: ObjectId) -> CommitInfo:
    """Return what is known of the commit with an id."""
    return commit_info(session, Node(commit, history.read_commit(session.store, commit)))


def versions(session: Session, head: ObjectId, path: str) -> Iterator[FileInfo]:
    """Yield every version of a file, the newest first."""
    store = session.store
    for node in history.ancestors(store, [head]):
        if history.touches(store, node.commit, path):
            held = dict(projection.recorded(store, node.id).files([path])).get(path)
            if held:
                yield from infos(session, node.id, [(path, held)], {path: node})
