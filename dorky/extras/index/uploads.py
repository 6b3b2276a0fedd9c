"""Uploads: checked, then added in a commit that is pushed before the client is told of success."""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import IO, Any, NamedTuple

import msgspec
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.wrappers import Request

from dorky import errors
from dorky.extras.index import records
from dorky.extras.index.answers import Refusal
from dorky.extras.index.depot import Depot, Package
from dorky.extras.index.names import normalized, parsed, parsed_version
from dorky.extras.index.records import Entry

_BLOCK = 1 << 20
_RECORD = 64 << 10
_HELD = 1000
_HELD_FOR = 3600.0
_AHEAD = timedelta(days=1)
_PARTS = 20_000
_FIELDS = 8 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGESTS = ("sha256_digest", "md5_digest", "blake2_256_digest")


class Form(Request):
    """An upload of twine's or uv's: real packages have 600 extras, and 600 KB of description."""

    max_form_parts = _PARTS
    max_form_memory_size = _FIELDS


class Done(NamedTuple):
    """What became of an upload.

    Attributes:
        status: The status code.
        words: What the client is told.
    """

    status: int
    words: str


_TOLD = {
    "upload_time": "upload-time",
    "requires_python": "requires-python",
    "core_metadata": "core-metadata",
    "source": "_source",
    "provenance": "_provenance",
}


class Told(msgspec.Struct, frozen=True, rename=_TOLD):
    """What a client tells of a file that it uploads, as its index had it."""

    filename: str
    hashes: dict[str, str]
    size: int | None = None
    upload_time: datetime | None = None
    requires_python: str | None = None
    core_metadata: dict[str, str] | bool | None = None
    yanked: bool | str = False
    source: str = ""
    provenance: str | None = ""

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the file that is meant, in hex."""
        return self.hashes.get("sha256", "").lower()


class Uploads:
    """The uploads to one place. Any number of threads may use it.

    Args:
        depot: The place.
        limit: The most bytes of a file.
    """

    def __init__(self, depot: Depot, limit: int) -> None:
        self._depot = depot
        self._limit = limit
        self._waiting: OrderedDict[tuple[str, str], tuple[float, Told]] = OrderedDict()
        self._lock = threading.Lock()

    # --- a form, by twine or uv ------------------------------------------------------------

    def form(self, environ: dict[str, Any]) -> Done:
        """Add the file of a form.

        Raises:
            Refusal: The form is malformed, or disagrees with the file.
        """
        request = Form(environ)
        self._bound(request, extra=_FIELDS)
        with _parsing():
            fields, files = request.form, request.files
        try:
            return self._form(fields, files)
        finally:
            request.close()

    def _form(self, fields: Mapping[str, str], files: Mapping[str, Any]) -> Done:
        if fields.get(":action", "file_upload") != "file_upload":
            raise Refusal(400, "the :action is not file_upload")
        content = files.get("content")
        if content is None or not content.filename:
            raise Refusal(400, "the form has no file called content")
        named = parsed(content.filename)
        name, version = fields.get("name", ""), fields.get("version", "")
        if name and normalized(name) != named.name:
            raise Refusal(400, f"the form's name is not that of {content.filename}")
        if version and parsed_version(version) != named.version:
            raise Refusal(400, f"the form's version is not that of {content.filename}")
        digests = {key: fields[key].lower() for key in _DIGESTS if fields.get(key)}
        return self._add(content.stream, content.filename, digests)

    # --- a file, or what is told of one ----------------------------------------------------

    def file(self, project: str, filename: str, request: Request) -> Done:
        """Add a file that is a request's body.

        Raises:
            Refusal: It is too large, or no file of the project's.
        """
        _check_place(project, filename)
        self._bound(request)
        with tempfile.TemporaryFile() as file, _parsing():
            while block := request.stream.read(_BLOCK):
                file.write(block)
            return self._add(file, filename, {})

    def _bound(self, request: Request, extra: int = 0) -> None:
        """Refuse a body that says to be too large, and end one that becomes so."""
        if (request.content_length or 0) > self._limit + extra:
            raise Refusal(413, f"a file has at most {self._limit:,} bytes here")
        request.max_content_length = self._limit + extra + 1

    def _add(self, file: IO[bytes], filename: str, digests: Mapping[str, str]) -> Done:
        sha256 = _checked(file, filename, digests, self._limit)
        told = self._taken(filename, sha256)
        entry = records.derive(
            file,
            filename,
            upload_time=told.upload_time if told else None,
            yanked=told.yanked if told else False,
            origin=told.source if told else "",
            provenance=(told.provenance or "") if told else "",
        )
        if told:
            _check_told(told, entry)
        added = self._depot.add([Package(entry, file)], f"Upload {filename}")
        return Done(201, f"{filename} was added") if added else Done(200, f"{filename} was here")

    def record(self, project: str, filename: str, request: Request) -> Done:
        """Note what a client tells of a file: when and where it was first uploaded, and yanked.

        If the file is not here yet, that is kept for an hour.

        Raises:
            Refusal: It is malformed, or disagrees with the file.
        """
        _check_place(project, filename)
        request.max_content_length = _RECORD + 1
        with _parsing():
            body = request.stream.read()
        try:
            told = msgspec.json.decode(body, type=Told)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Refusal(400, "it is no record of a file (PEP 691)") from None
        _check_sound(told, filename)
        try:
            entry = self._depot.entry(filename)
        except errors.NoSuchPackage:
            self._hold(told)
            return Done(202, f"the record waits for {filename}")
        if entry.sha256 != told.sha256:
            raise Refusal(409, f"{filename} is here already, with other content")
        _check_told(told, entry)
        changed = self._depot.describe(
            filename,
            upload_time=told.upload_time,
            yanked=told.yanked,
            source=told.source,
            provenance=told.provenance or "",
        )
        return Done(200, f"the record of {filename} was {'changed' if changed else 'here'}")

    def _hold(self, told: Told) -> None:
        now = time.monotonic()
        with self._lock:
            self._waiting[told.filename, told.sha256] = now, told
            while len(self._waiting) > _HELD or (
                self._waiting and now - next(iter(self._waiting.values()))[0] > _HELD_FOR
            ):
                self._waiting.popitem(last=False)

    def _taken(self, filename: str, sha256: str) -> Told | None:
        """Return what was told of a file: by its hash, so that nobody can spoil another's."""
        with self._lock:
            then, told = self._waiting.pop((filename, sha256), (0.0, None))
        return told if time.monotonic() - then <= _HELD_FOR else None


@contextmanager
def _parsing() -> Iterator[None]:
    try:
        yield
    except RequestEntityTooLarge:
        raise Refusal(413, "the upload, or a field of its form, is too large") from None
    except ClientDisconnected:
        raise Refusal(400, "the upload has ended early, or its chunks are malformed") from None


def _check_place(project: str, filename: str) -> None:
    """Refuse a file below another project's URL."""
    if normalized(project) != parsed(filename).name:
        raise Refusal(400, f"{filename} is no file of {normalized(project)}")


def _checked(file: IO[bytes], filename: str, digests: Mapping[str, str], limit: int) -> str:
    """Return the SHA-256 of a file, after a look at what else the client has computed."""
    made: dict[str, Any] = {
        "sha256_digest": hashlib.sha256(),
        "md5_digest": hashlib.md5(usedforsecurity=False),
        "blake2_256_digest": hashlib.blake2b(digest_size=32),
    }
    computed = {name: made[name] for name in {*digests, "sha256_digest"}}
    file.seek(0)
    size = 0
    while block := file.read(_BLOCK):
        size += len(block)
        for digest in computed.values():
            digest.update(block)
    if size > limit:
        raise Refusal(413, f"a file has at most {limit:,} bytes here")
    for name, expected in digests.items():
        if computed[name].hexdigest() != expected:
            raise Refusal(400, f"{filename} does not have the {name} that the form says")
    return str(computed["sha256_digest"].hexdigest())


def _check_sound(told: Told, filename: str) -> None:
    texts = (
        told.yanked if isinstance(told.yanked, str) else "",
        told.source,
        told.provenance or "",
    )
    if told.filename != filename:
        raise Refusal(400, f"the record is that of another file than {filename}")
    if not _SHA256.fullmatch(told.sha256):
        raise Refusal(400, "the record has no hashes.sha256")
    if not all(text.isprintable() for text in texts):
        raise Refusal(400, "the record's texts hold control characters")
    if told.upload_time:
        if told.upload_time.tzinfo is None:
            raise Refusal(400, "the record's upload-time has no time zone")
        if told.upload_time > datetime.now(timezone.utc) + _AHEAD:
            raise Refusal(400, "the record's upload-time is in the future")


def _check_told(told: Told, entry: Entry) -> None:
    """Refuse what was computed otherwise: nothing in a record is believed."""
    wrong = {
        "size": told.size is not None and told.size != entry.size,
        "requires-python": told.requires_python is not None
        and told.requires_python != entry.requires_python,
        "core-metadata": isinstance(told.core_metadata, dict)
        and bool(told.core_metadata)
        and told.core_metadata != entry.core_metadata,
    }
    if found := [field for field, is_wrong in wrong.items() if is_wrong]:
        raise Refusal(400, f"the record's {found[0]} is not that of {entry.filename}")
