"""The metadata inside wheels and source distributions."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import re
import tarfile
import zipfile
import zlib
from typing import IO, Any, NamedTuple, TypeVar, cast

from packaging.metadata import parse_email
from packaging.version import InvalidVersion, Version

from dorky import errors
from dorky.extras.index.names import Named, normalized, parsed

T = TypeVar("T")

_LARGEST = 16 << 20
"""The most bytes of metadata: descriptions of some real projects have 600 KB."""
_UNPACKED = 16 << 30
_BLOCK = 1 << 20
_MEMBERS = 200_000
_DIRECTORY = 20 << 20
"""The most bytes of a zip archive that are read for its directory, at its end."""
_HEADERS = 8 << 20
"""The most bytes of headers in front of a member of a tar archive."""
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""How metadata may be compressed: the others unpack a block whole, whatever is asked for."""
_FIRST_STATIC = Version("2.2")
# What a resolver reads. Another dynamic field, such as the description, leaves these as they are.
_RESOLVED = {"requires-dist", "requires-python", "provides-extra"}
_DAMAGE = (
    *(OSError, EOFError, ValueError, KeyError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, csv.Error),
)


class _Bounded:
    """A file of which not more is read than expected, whatever a header in it says.

    Attributes:
        left: How many bytes may still be read.
    """

    def __init__(self, file: IO[bytes], filename: str, left: int) -> None:
        self.left = left
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._file = file
        self._filename = filename

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        Raises:
            BadPackage: There are more than expected.
        """
        wanted = self.left + 1 if size is None or size < 0 else min(size, self.left + 1)
        found = self._file.read(wanted)
        self.left -= len(found)
        if self.left < 0:
            raise errors.BadPackage(self._filename, "a header in it is too large")
        return found


class Metadata(NamedTuple):
    """The metadata of a distribution.

    Attributes:
        body: The file METADATA or PKG-INFO.
        requires_python: The versions of Python that it needs; empty if it does not say.
        static: Whether what a resolver reads is the same for every build.
    """

    body: bytes
    requires_python: str
    static: bool


def metadata(file: IO[bytes], filename: str, *, recorded: bool = False) -> Metadata:
    """Return the metadata of a distribution, which must agree with its filename.

    Args:
        file: The distribution.
        filename: Its name.
        recorded: Whether a wheel's RECORD must list exactly the files that it holds, as PyPI wants
            it of uploads: installers may understand an archive in different ways.

    Raises:
        BadPackage: The archive is damaged, holds no metadata or several, or names another project.
    """
    named = parsed(filename)
    file.seek(0)
    try:
        if filename.endswith(".tar.gz"):
            body = _of_tar(file, filename)
        else:
            body = _of_zip(file, filename, named, recorded=recorded)
    except errors.BadPackage:
        raise
    except _DAMAGE as error:
        raise errors.BadPackage(filename, f"the archive is damaged ({error})") from None
    return _checked(body, filename, named)


def _of_zip(file: IO[bytes], filename: str, named: Named, *, recorded: bool) -> bytes:
    pattern = r"[^/]+\.dist-info/METADATA" if named.kind == "wheel" else r"[^/]+/PKG-INFO"
    bounded = _Bounded(file, filename, _DIRECTORY)
    with zipfile.ZipFile(cast("IO[bytes]", bounded)) as archive:
        names: set[str] = set()
        for info in archive.infolist():
            if info.filename in names:
                raise errors.BadPackage(filename, f"it holds two files called {info.filename}")
            names.add(info.filename)
        found = [info for info in archive.infolist() if re.fullmatch(pattern, info.filename)]
        info = _only(found, filename)
        body = _member(archive, bounded, info, filename)
        directory = info.filename.partition("/")[0]
        if named.kind == "wheel" and recorded:
            record = f"{directory}/RECORD"
            if record not in names:
                raise errors.BadPackage(filename, "it holds no RECORD")
            listed = _member(archive, bounded, archive.getinfo(record), filename)
            _check_record(names, listed, record, filename)
    if named.kind == "wheel":
        directory = directory.removesuffix(".dist-info")
        name, _, version = directory.rpartition("-")
        if not _agrees(named, name, version):
            raise errors.BadPackage(filename, f"its metadata is that of {directory}")
    return body


def _member(
    archive: zipfile.ZipFile, bounded: _Bounded, info: zipfile.ZipInfo, filename: str
) -> bytes:
    """Return a small file in an archive."""
    if info.compress_type not in _METHODS:
        raise errors.BadPackage(filename, "its metadata is neither stored nor deflated")
    bounded.left = info.compress_size + _DIRECTORY
    if info.file_size > _LARGEST:
        raise errors.BadPackage(filename, "its metadata is larger than 16 MiB")
    with archive.open(info) as member:
        return member.read(_LARGEST + 1)


def _check_record(names: set[str], body: bytes, record: str, filename: str) -> None:
    """Compare the names that a RECORD lists with those in the wheel.

    Hashes are left out: unpacking costs 16 ms a megabyte, and the SHA-256 of the whole is pinned.
    """
    rows = csv.reader(io.StringIO(body.decode(), newline=""))
    listed = {row[0].replace("\\", "/") for row in rows if row}
    held = {name for name in names if not name.endswith("/")}
    free = {f"{record}{ending}" for ending in ("", ".jws", ".p7s")}
    if odd := sorted((held ^ listed) - free):
        what = "does not list" if odd[0] in held else "lists what it does not hold:"
        raise errors.BadPackage(filename, f"its RECORD {what} {odd[0]}")


def _of_tar(file: IO[bytes], filename: str) -> bytes:
    bodies: list[bytes] = []
    unpacked = 0
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(gzip.GzipFile(fileobj=file))
        bounded = _Bounded(cast("IO[bytes]", plain), filename, _HEADERS)
        # It keeps all members, and all headers for all of them, which the types don't tell of.
        archive: Any = stack.enter_context(
            tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r|")
        )
        for count, member in enumerate(archive):
            archive.members.clear()
            archive.pax_headers.clear()
            unpacked += member.size
            if unpacked > _UNPACKED or count > _MEMBERS:
                raise errors.BadPackage(filename, "it unpacks to too much")
            if member.issparse():
                raise errors.BadPackage(filename, "it holds a sparse file")
            bounded.left = member.size + _HEADERS
            if not re.fullmatch(r"(\./)?[^/]+/PKG-INFO", member.name):
                continue
            if not member.isreg() or member.size > _LARGEST:
                raise errors.BadPackage(filename, "its metadata is larger than 16 MiB")
            held = archive.extractfile(member)
            bodies.append(held.read() if held else b"")
        while plain.read(_BLOCK):  # the checksum is at the end
            if plain.tell() > _UNPACKED:
                raise errors.BadPackage(filename, "it unpacks to more than 16 GiB")
    return _only(bodies, filename)


def _only(found: list[T], filename: str) -> T:
    if len(found) != 1:
        what = "more than one METADATA or PKG-INFO" if found else "no METADATA or PKG-INFO"
        raise errors.BadPackage(filename, f"it holds {what}")
    return found[0]


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _agrees(named: Named, name: str, version: str) -> bool:
    try:
        return normalized(name) == named.name and _version(version) == named.version
    except errors.BadPackage:
        return False


def _checked(body: bytes, filename: str, named: Named) -> Metadata:
    raw, _ = parse_email(body)
    name, version = raw.get("name", ""), raw.get("version", "")
    # A field that stands there twice is in neither place: it can't agree with anything.
    if not _agrees(named, name, version):
        raise errors.BadPackage(filename, f"its metadata is that of {name or '?'} {version or '?'}")
    requires_python = " ".join(raw.get("requires_python", "").split())
    if not requires_python.isprintable():
        raise errors.BadPackage(filename, "its Requires-Python is no text")
    format_ = _version(raw.get("metadata_version", ""))
    dynamic = {field.lower() for field in raw.get("dynamic", ())}
    static = named.kind == "wheel" or (
        format_ is not None and format_ >= _FIRST_STATIC and not dynamic & _RESOLVED
    )
    return Metadata(body, requires_python, static)
