"""`Depot`: the packages that a directory or a repository holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import IO, NamedTuple

import msgspec
from packaging.version import Version

from dorky import errors
from dorky.extras.index import archives, records
from dorky.extras.index.names import (
    Named,
    file_path,
    is_file,
    normalized,
    parsed,
    parsed_version,
    record_path,
    status_path,
)
from dorky.extras.index.records import Entry, Source, States, Status
from dorky.extras.index.storage import Opened, Storage
from dorky.results import PythonRemoval, Result

_CLOSED = {"archived", "quarantined"}
_STATUS = "project.json"
_READERS = 8
_FEW = 3
_OTHER = "it is not the file of which its record tells"
_BLOCK = 1 << 20


class Project(Result, frozen=True, kw_only=True):
    """A project and its files.

    Attributes:
        name: Its name, normalized.
        status: Its status.
        files: Its files, by version and name; those of a quarantined project, too.
        versions: Its versions, the oldest first.
        etag: A text that changes exactly when one of these does.
    """

    name: str
    status: Status
    files: tuple[Entry, ...]
    versions: tuple[str, ...]
    etag: str


class Package(NamedTuple):
    """A file to add, with its record (see `records.derive`)."""

    entry: Entry
    source: Source


class Depot:
    """The packages in one place.

    Args:
        storage: The place.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @property
    def place(self) -> str:
        """Return the name of the place, for people."""
        return self._storage.place

    # --- reading ---------------------------------------------------------------------------

    def is_closed(self, name: str) -> bool:
        """Return whether a project is closed to the reader, who can't tell whether it is here.

        Args:
            name: The project, normalized.
        """
        wheel = f"files/{name}/{name.replace('-', '_')}-0-py3-none-any.whl"
        places = wheel, status_path(name), record_path(name, parsed_version("0"))
        return any(map(self._storage.is_closed, places))

    def projects(self) -> list[str]:
        """Return the names of all projects, sorted."""
        return [name for name in self._storage.directories("python") if _is_normal(name)]

    def etag(self, name: str) -> str:
        """Return a text that changes exactly when a project does; nothing is opened for it.

        Raises:
            NoSuchPackage: There is no such project.
        """
        name = normalized(name)
        return self._etag(name, self._digests(name))

    def _digests(self, name: str) -> dict[str, str]:
        found = self._storage.digests(f"python/{name}")
        held = {file: digest for file, digest in found.items() if file.endswith(".json")}
        if not held.keys() - {_STATUS}:
            raise errors.NoSuchPackage(name, self.place)
        return held

    def _etag(self, name: str, digests: Mapping[str, str]) -> str:
        lines = "".join(f"{file} {digest}\n" for file, digest in sorted(digests.items()))
        return hashlib.sha256(f"{name}\n{lines}".encode()).hexdigest()[:32]

    def project(self, name: str) -> Project:
        """Return a project.

        Raises:
            NoSuchPackage: There is no such project.
            BadRecord: Its records are damaged.
        """
        name = normalized(name)
        digests = self._digests(name)
        versions = [
            parsed_version(file.removesuffix(".json")) for file in digests.keys() - {_STATUS}
        ]
        read = partial(self._entries, self._storage, name)
        if len(versions) > _FEW:  # each may be a request to the bucket
            with ThreadPoolExecutor(_READERS) as pool:
                entries = [*pool.map(read, versions)]
        else:
            entries = [*map(read, versions)]
        found = {
            version: [*held.values()]
            for version, held in zip(versions, entries, strict=True)
            if held
        }
        known = _STATUS in digests
        return Project(
            name=name,
            status=self._status(self._storage, name) if known else Status(),
            files=tuple(
                entry
                for version in sorted(found)
                for entry in sorted(found[version], key=lambda entry: entry.filename)
            ),
            versions=tuple(map(str, sorted(found))),
            etag=self._etag(name, digests),
        )

    def _entries(self, storage: Storage, name: str, version: Version) -> dict[str, Entry]:
        path = record_path(name, version)
        try:
            return records.decode(storage.read(path), path)
        except errors.NoSuchFile:
            return {}

    def _status(self, storage: Storage, name: str) -> Status:
        path = status_path(name)
        try:
            return records.decode_status(storage.read(path), path)
        except errors.NoSuchFile:
            return Status()

    def entry(self, filename: str) -> Entry:
        """Return the record of a file.

        Raises:
            NoSuchPackage: There is no such file.
        """
        named = parsed(filename)
        found = self._entries(self._storage, named.name, named.version).get(filename)
        if not found:
            raise errors.NoSuchPackage(filename, self.place)
        return found

    def open(self, filename: str) -> Opened:
        """Open a file for reading; it can seek.

        Raises:
            NoSuchPackage: There is no such file.
            BadRecord: It is not the one of which its record tells.
        """
        entry = self.entry(filename)
        path = file_path(filename)
        try:
            found = self._storage.open(path)
        except errors.NoSuchFile:
            raise errors.BadRecord(path, "the file is missing") from None
        if found.size != entry.size or found.sha256 not in {"", entry.sha256}:
            found.file.close()
            raise errors.BadRecord(path, _OTHER)
        return found._replace(sha256=entry.sha256)

    def verified(self, filename: str) -> IO[bytes]:
        """Open a file for reading, after all of it was read and compared with its record.

        Raises:
            NoSuchPackage: There is no such file.
            BadRecord: It is not the one of which its record tells.
        """
        opened = self.open(filename)
        file = opened.file
        digest = hashlib.sha256()
        while block := file.read(_BLOCK):
            digest.update(block)
        if digest.hexdigest() != opened.sha256:
            file.close()
            raise errors.BadRecord(file_path(filename), _OTHER)
        file.seek(0)
        return file

    def metadata(self, filename: str) -> bytes:
        """Return the metadata inside a file, for which its record has ``core_metadata``.

        Raises:
            NoSuchPackage: There is no such file, or resolvers can't rely on its metadata.
            BadRecord: It is not the metadata of which the record tells.
        """
        expected = self.entry(filename).core_metadata.get("sha256")
        if not expected:
            raise errors.NoSuchPackage(f"{filename}.metadata", self.place)
        with self.open(filename).file as file:
            body = archives.metadata(file, filename).body
        if hashlib.sha256(body).hexdigest() != expected:
            raise errors.BadRecord(file_path(filename), "its metadata is not that of its record")
        return body

    def bundles(self, filename: str) -> Sequence[bytes]:
        """Return the signatures of a file, the best first (see `DorkyClient.get_bundles`)."""
        return self._storage.bundles(file_path(filename))

    # --- changing --------------------------------------------------------------------------

    def add(self, packages: Sequence[Package], message: str = "") -> tuple[Entry, ...]:
        """Add files, all or none. Those that are there already are left as they are.

        Args:
            packages: The files.
            message: The message of the commit.

        Returns:
            The records of the files that were not there.

        Raises:
            PackageHeld: One is there with other content.
            ProjectClosed: A project is archived or quarantined.
        """
        added: dict[str, Entry] = {}

        def changes(state: Storage) -> dict[str, Source | None]:
            added.clear()
            files: dict[str, Source | None] = {}
            versions: dict[tuple[str, Version], dict[str, Entry]] = {}
            for entry, source in packages:
                named = parsed(entry.filename)
                key = named.name, named.version
                held = versions.setdefault(key, self._entries(state, *key))
                if known := held.get(entry.filename):
                    if known.sha256 != entry.sha256:
                        raise errors.PackageHeld(entry.filename, state.place or self.place)
                    continue
                self._check_open(state, named.name)
                held[entry.filename] = added[entry.filename] = entry
                files[file_path(entry.filename)] = source
            changed = {(n.name, n.version): versions[n.name, n.version] for n in _named(added)}
            written = {
                record_path(*key): records.encode(entries) for key, entries in changed.items()
            }
            return files | written

        self._storage.change(changes, message or _message("Add", packages))
        return tuple(added.values())

    def describe(
        self,
        filename: str,
        *,
        upload_time: datetime | None,
        yanked: bool | str,
        source: str,
        provenance: str,
    ) -> bool:
        """Note what another index tells of a file that is here; return whether that is new.

        Args:
            filename: The file.
            upload_time: When it was uploaded there; None: what is known already.
            yanked: Whether it is yanked there; or the reason.
            source: The page of that index.
            provenance: The address of the attestations that it has of the file.

        Raises:
            NoSuchPackage: There is no such file.
        """
        named = parsed(filename)
        changed = False

        def changes(state: Storage) -> dict[str, Source | None]:
            nonlocal changed
            held = self._held(state, named.name, named.version)
            if filename not in held:
                raise errors.NoSuchPackage(filename, self.place)
            new = msgspec.structs.replace(
                held[filename],
                upload_time=upload_time or held[filename].upload_time,
                yanked=yanked,
                source=source,
                provenance=provenance,
            )
            changed = new != held[filename]
            made = records.encode({**held, filename: new})
            return {record_path(named.name, named.version): made} if changed else {}

        self._storage.change(changes, f"Describe {filename}")
        return changed

    def _check_open(self, state: Storage, name: str) -> None:
        status = self._status(state, name).status
        if status in _CLOSED:
            raise errors.ProjectClosed(name, status)

    def yank(self, name: str, version: str, reason: str = "", *, undo: bool = False) -> Project:
        """Yank a version: from then on only who asks for exactly it gets it (PEP 592).

        Args:
            name: The project.
            version: The version.
            reason: The reason, for people.
            undo: Whether it is to be as if it had not been yanked.

        Raises:
            NoSuchPackage: There is no such version.
        """
        _check_reason(reason)
        key = normalized(name), parsed_version(version)
        yanked: bool | str = False if undo else reason or True

        def changes(state: Storage) -> dict[str, Source | None]:
            held = self._held(state, *key)
            made = {
                filename: records.with_yanked(entry, yanked) for filename, entry in held.items()
            }
            return {record_path(*key): records.encode(made)} if made != held else {}

        self._storage.change(changes, f"{'Unyank' if undo else 'Yank'} {key[0]} {key[1]}")
        return self.project(key[0])

    def _held(self, state: Storage, name: str, version: Version) -> dict[str, Entry]:
        held = self._entries(state, name, version)
        if not held:
            raise errors.NoSuchPackage(f"{name} {version}", self.place)
        return held

    def plan_removal(self, name: str, version: str = "") -> PythonRemoval:
        """Return what `remove` would do.

        Raises:
            NoSuchPackage: There is nothing.
        """
        return self._removal(self._storage, name, version)[0]

    def _removal(
        self, state: Storage, name: str, version: str
    ) -> tuple[PythonRemoval, dict[str, Source | None]]:
        name = normalized(name)
        # A damaged record must not keep its project from being removed.
        files, held = state.sizes(f"files/{name}"), [*state.sizes(f"python/{name}")]
        if version:
            number = parsed_version(version)
            held = [file for file in held if file == f"{number}.json"]
            files = {
                file: size
                for file, size in files.items()
                if is_file(file) and parsed(file).version == number
            }
        if not files and not held:
            raise errors.NoSuchPackage(f"{name} {version}".strip(), self.place)
        changes: dict[str, Source | None] = {f"python/{name}/{file}": None for file in held}
        changes |= {f"files/{name}/{file}": None for file in files}
        removal = PythonRemoval(name=name, files=tuple(files), size=sum(files.values()), done=False)
        return removal, changes

    def remove(self, name: str, version: str = "") -> PythonRemoval:
        """Remove a version's files, or a project as a whole.

        Args:
            name: The project.
            version: The version; empty: all of them, and the status.

        Raises:
            NoSuchPackage: There is nothing.
        """
        found: list[PythonRemoval] = []

        def changes(state: Storage) -> dict[str, Source | None]:
            removal, made = self._removal(state, name, version)
            found.append(removal)
            return made

        self._storage.change(changes, f"Remove {name} {version}".strip())
        return msgspec.structs.replace(found[-1], done=True)

    def set_status(self, name: str, status: States, reason: str = "") -> Project:
        """Give a project a status (PEP 792).

        Args:
            name: The project.
            status: The status.
            reason: The reason, for people.

        Raises:
            NoSuchPackage: There is no such project.
        """
        _check_reason(reason)
        name = normalized(name)
        new = Status(status=status, reason=reason)

        def changes(state: Storage) -> dict[str, Source | None]:
            if not state.sizes(f"python/{name}").keys() - {_STATUS}:
                raise errors.NoSuchPackage(name, self.place)
            if self._status(state, name) == new:
                return {}
            return {status_path(name): records.encode_status(new)}

        self._storage.change(changes, f"Set the status of {name}: {status}")
        return self.project(name)


def _check_reason(reason: str) -> None:
    """Refuse a reason that a page can't show.

    Raises:
        UsageError: It has line ends or control characters.
    """
    if not reason.isprintable():
        raise errors.UsageError(f"the reason {reason!r} is not one line of text")


def _is_normal(name: str) -> bool:
    try:
        return normalized(name) == name
    except errors.BadPackage:
        return False


def _named(filenames: Iterable[str]) -> list[Named]:
    return [parsed(filename) for filename in filenames]


def _message(what: str, packages: Sequence[Package]) -> str:
    names = [package.entry.filename for package in packages]
    rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{what} {names[0]}{rest}" if names else what
