"""Small wheels and source distributions, made without any build tool."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from servers import RequestLog, serving

from dorky import errors
from dorky.extras.index import pages
from dorky.extras.index.depot import Depot, Package
from dorky.extras.index.records import derive
from dorky.extras.index.storage import Directory

EPOCH = (2020, 1, 1, 0, 0, 0)


def metadata(
    name: str,
    version: str,
    requires: Sequence[str] = (),
    *,
    requires_python: str = "",
    metadata_version: str = "2.3",
    extra: str = "",
) -> str:
    """Return the text of METADATA, or PKG-INFO."""
    lines = [f"Metadata-Version: {metadata_version}", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {required}" for required in requires]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    return "\n".join(lines) + f"\n{extra}"


def wheel(
    directory: Path,
    name: str = "acme-core",
    version: str = "1.0",
    requires: Sequence[str] = (),
    *,
    requires_python: str = "",
    tag: str = "py3-none-any",
    code: str = "",
    text: str | None = None,
    files: Mapping[str, str] = {},
) -> Path:
    """Make a wheel of a package with one module; return its path.

    Args:
        directory: Where it goes.
        name: The project's name, as a person writes it.
        version: The version.
        requires: What it depends on.
        requires_python: Its Requires-Python.
        tag: What it runs on.
        code: The text of its module.
        text: All of METADATA, if that is to be something else.
        files: Further files in it.
    """
    base = name.replace("-", "_").replace(".", "_").lower()
    about = f"{base}-{version}.dist-info"
    body = metadata(name, version, requires, requires_python=requires_python)
    held = {
        f"{base}.py": code or f"VERSION = {version!r}\n",
        f"{about}/METADATA": body if text is None else text,
        f"{about}/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
        ),
        **files,
    }
    record = "".join(
        f"{path},{_digest(text)},{len(text.encode())}\n" for path, text in held.items()
    )
    held[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{base}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in held.items():
            archive.writestr(zipfile.ZipInfo(member, EPOCH), content)
    return path


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def sdist(
    directory: Path,
    name: str = "acme-core",
    version: str = "1.0",
    requires: Sequence[str] = (),
    *,
    requires_python: str = "",
    metadata_version: str = "2.3",
    extra: str = "",
    text: str | None = None,
) -> Path:
    """Make a source distribution; return its path.

    Args:
        directory: Where it goes.
        name: The project's name, as a person writes it.
        version: The version.
        requires: What it depends on.
        requires_python: Its Requires-Python.
        metadata_version: The version of the metadata's format: before 2.2, none is static.
        extra: Further lines of PKG-INFO.
        text: All of PKG-INFO, if that is to be something else.
    """
    base = name.replace("-", "_").replace(".", "_").lower()
    body = metadata(
        name,
        version,
        requires,
        requires_python=requires_python,
        metadata_version=metadata_version,
        extra=extra,
    )
    held = {
        "PKG-INFO": body if text is None else text,
        "pyproject.toml": f'[project]\nname = "{name}"\nversion = "{version}"\n',
        f"{base}.py": f"VERSION = {version!r}\n",
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{base}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member, content in held.items():
            info = tarfile.TarInfo(f"{base}-{version}/{member}")
            info.size = len(content.encode())
            archive.addfile(info, io.BytesIO(content.encode()))
    return path


# --- an index --------------------------------------------------------------------------------


def package(path: Path, **how: object) -> Package:
    """Return a file with its record; ``how`` is of `derive`."""
    return Package(derive(path, path.name, **how), path)  # type: ignore[arg-type]


def depot_of(directory: Path, *paths: Path) -> Depot:
    """Return a depot in a directory, with some files more."""
    depot = Depot(Directory(directory))
    depot.add([package(path) for path in paths])
    return depot


class Index(NamedTuple):
    """A running index, as other people have one.

    Attributes:
        url: The address of the list of its projects.
        depot: Its packages.
        log: What it was asked.
        statuses: The statuses of its next answers, before it answers as it should.
    """

    url: str
    depot: Depot
    log: RequestLog
    statuses: list[int]


@contextlib.contextmanager
def index_server(directory: Path, *, password: str = "") -> Iterator[Index]:
    """Serve a depot: the pages in JSON, its files and their metadata.

    Args:
        directory: The depot's directory.
        password: The password that it asks of a user ``ana``; empty: it asks for none.
    """
    depot, log, statuses = Depot(Directory(directory)), RequestLog(), list[int]()
    expected = "Basic " + base64.b64encode(f"ana:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            log.add(self.command, self.path)
            if statuses:
                self.answer(statuses.pop(0), "text/plain", b"not now")
            elif password and self.headers.get("Authorization") != expected:
                self.answer(401, "text/plain", b"who are you?")
            else:
                try:
                    self.answer(200, *content(unquote(self.path)))
                except errors.NotFoundError:
                    self.answer(404, "text/plain", b"nothing")

        def do_HEAD(self) -> None:
            self.do_GET()

        def answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    def content(path: str) -> tuple[str, bytes]:
        kind, _, rest = path.strip("/").partition("/")
        if kind == "simple":
            page = pages.project_page(depot.project(rest)) if rest else b""
            return pages.JSON_TYPE, page or pages.project_list(depot.projects())
        filename = rest.rpartition("/")[2]
        if filename.endswith(".metadata"):
            return "text/plain", depot.metadata(filename.removesuffix(".metadata"))
        with depot.open(filename).file as file:
            return "application/octet-stream", file.read()

    with serving(Handler) as endpoint:
        yield Index(f"{endpoint}/simple/", depot, log, statuses)
