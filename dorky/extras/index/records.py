"""The records of files, as a depot stores them: PEP 691 entries, by filename."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Annotated, Literal

import msgspec

from dorky import errors
from dorky.extras.index import archives
from dorky.extras.index.names import parsed
from dorky.results import Result

Source = Path | bytes | IO[bytes]
"""The content of a file: a path, bytes, or a file that is open for reading and can seek."""
States = Literal["active", "archived", "quarantined", "deprecated"]

_HASH = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 20


class Entry(
    Result,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename=lambda name: {"source": "_source", "provenance": "_provenance"}.get(
        name, name.replace("_", "-")
    ),
):
    """A file of a project, as PEP 691, 700 and 714 have it.

    Attributes:
        filename: Its name.
        url: Where it lies, relative to the record.
        hashes: Its SHA-256, in hex.
        size: Its size in bytes.
        upload_time: When it was uploaded, in UTC, to the index that it came from.
        requires_python: The versions of Python that it needs; empty: any.
        core_metadata: The SHA-256 of its metadata, in hex; empty if a resolver can't rely on that.
        yanked: Whether only who names the very version gets it; or the reason.
        source: The page of the index that it came from; empty: it was uploaded.
        provenance: The address of the attestations that the index has of it.
    """

    filename: str
    url: str
    hashes: dict[str, str]
    size: int
    upload_time: Annotated[datetime, msgspec.Meta(tz=True)]
    requires_python: str = ""
    core_metadata: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    yanked: bool | str = False
    source: str = ""
    provenance: str = ""

    @property
    def sha256(self) -> str:
        """Return its SHA-256, in hex."""
        return self.hashes["sha256"]

    @property
    def name(self) -> str:
        """Return the project's name."""
        return parsed(self.filename).name

    @property
    def version(self) -> str:
        """Return the version, in its canonical form."""
        return str(parsed(self.filename).version)


class Status(Result, frozen=True, kw_only=True, omit_defaults=True):
    """The status of a project (PEP 792).

    Attributes:
        status: The status.
        reason: The reason, for people.
    """

    status: States = "active"
    reason: str = ""


@contextmanager
def opened(source: Source) -> Iterator[IO[bytes]]:
    """Open a source at its beginning."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    elif isinstance(source, bytes):
        yield io.BytesIO(source)
    else:
        source.seek(0)
        yield source


def derive(
    source: Source,
    filename: str,
    *,
    upload_time: datetime | None = None,
    yanked: bool | str = False,
    origin: str = "",
    provenance: str = "",
    recorded: bool = True,
) -> Entry:
    """Return the record of a file: everything in it is computed from the file.

    Args:
        source: The content.
        filename: The name of a wheel or a source distribution.
        upload_time: When it was uploaded to the index that it came from; None: now.
        yanked: Whether that index has yanked it; or the reason.
        origin: The page of that index.
        provenance: The address of the attestations that the index has of it.
        recorded: Whether a wheel's RECORD must list the files that it holds.

    Raises:
        BadPackage: The filename and the metadata in the file don't agree, or it is damaged.
    """
    with opened(source) as file:
        digest, size = hashlib.sha256(), 0
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
        found = archives.metadata(file, filename, recorded=recorded)
    core = {"sha256": hashlib.sha256(found.body).hexdigest()} if found.static else {}
    return Entry(
        filename=filename,
        url=_url(filename),
        hashes={"sha256": digest.hexdigest()},
        size=size,
        upload_time=(upload_time or datetime.now(timezone.utc)).astimezone(timezone.utc),
        requires_python=found.requires_python,
        core_metadata=core,
        yanked=yanked,
        source=origin,
        provenance=provenance,
    )


def _url(filename: str) -> str:
    return f"../../files/{parsed(filename).name}/{filename}"


def with_yanked(entry: Entry, yanked: bool | str) -> Entry:
    """Return a record of the same file, yanked or not."""
    return msgspec.structs.replace(entry, yanked=yanked)


def encode(entries: Mapping[str, Entry]) -> bytes:
    """Return the records of a version's files, as they are stored."""
    ordered = {name: entries[name] for name in sorted(entries)}
    return msgspec.json.format(msgspec.json.encode(ordered), indent=2) + b"\n"


def decode(data: bytes, path: str) -> dict[str, Entry]:
    """Return the records that a depot holds for a version, by filename.

    Args:
        data: The content.
        path: Where it lies, ``python/NAME/VERSION.json``.

    Raises:
        BadRecord: It is damaged, or somebody has written what can't be true.
    """
    try:
        entries = msgspec.json.decode(data, type=dict[str, Entry])
        _, name, version = path.removesuffix(".json").split("/")
        for filename, entry in entries.items():
            _check(entry, filename, name, version)
    except (msgspec.DecodeError, errors.BadPackage, UnicodeDecodeError, ValueError) as error:
        raise errors.BadRecord(path, str(error)) from None
    return entries


def _check(entry: Entry, filename: str, name: str, version: str) -> None:
    """Refuse what no file can have.

    Raises:
        ValueError: A field is wrong.
        BadPackage: The filename is none.
    """
    texts = [entry.requires_python, entry.yanked if isinstance(entry.yanked, str) else ""]
    wrong = {
        "filename": entry.filename != filename,
        "name": (entry.name, entry.version) != (name, version),
        "url": entry.url != _url(filename),
        "hashes": not _HASH.fullmatch(entry.hashes.get("sha256", "")),
        "core-metadata": bool(entry.core_metadata)
        and not _HASH.fullmatch(entry.core_metadata.get("sha256", "")),
        "size": entry.size < 0,
        "text": not all(text.isprintable() for text in texts),
    }
    if found := [field for field, is_wrong in wrong.items() if is_wrong]:
        raise ValueError(f"{filename} has a wrong {found[0]}")


def decode_status(data: bytes, path: str) -> Status:
    """Return the status that a depot holds for a project.

    Raises:
        BadRecord: It is damaged.
    """
    try:
        found = msgspec.json.decode(data, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.BadRecord(path, str(error)) from None
    if not found.reason.isprintable():
        raise errors.BadRecord(path, "the reason is no text")
    return found


def encode_status(status: Status) -> bytes:
    """Return a project's status, as it is stored."""
    return msgspec.json.format(msgspec.json.encode(status), indent=2) + b"\n"
