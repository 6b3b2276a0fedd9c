"""The records of Python packages: each is made from its file, and checked against it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import tracemalloc
import zipfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import pytest
import wheels

from dorky import errors
from dorky.extras.index import names, records


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("given", "normal"),
    [("Zope.Interface", "zope-interface"), ("a__b.-C", "a-b-c"), ("x", "x")],
)
def test_names_are_normalized(given: str, normal: str) -> None:
    assert names.normalized(given) == normal


@pytest.mark.parametrize("given", ["", "..", "a/b", "-a", "a\n", "é", "a" * 200, ".dorky"])
def test_what_is_no_name_is_refused(given: str) -> None:
    with pytest.raises(errors.BadPackage):
        names.normalized(given)


@pytest.mark.parametrize(
    ("filename", "name", "version", "kind"),
    [
        ("Jinja2-3.1.6-py3-none-any.whl", "jinja2", "3.1.6", "wheel"),
        ("a-1!2.0+local.1-1-cp311-cp311-linux_x86_64.whl", "a", "1!2.0+local.1", "wheel"),
        ("zope.interface-5.0.0.tar.gz", "zope-interface", "5.0.0", "sdist"),
        ("b-1.0.zip", "b", "1.0", "sdist"),
    ],
)
def test_filenames_are_parsed(filename: str, name: str, version: str, kind: str) -> None:
    found = names.parsed(filename)
    assert (found.name, str(found.version), found.kind) == (name, version, kind)


@pytest.mark.parametrize(
    "filename",
    [
        *("a-1.0.egg", "a-1.0.exe", "a.whl", "a-1.0.tar.bz2", "a-x.y.tar.gz", ".a-1.0.tar.gz"),
        *("../a-1.0.tar.gz", "a/b-1.0.tar.gz", "a-1.0-py3-none-any.whl/", "a\n-1.0.tar.gz"),
        *("a-1.0.tar.gz\n", "a%2e-1.0.tar.gz", "-1.0.tar.gz", f"{'a' * 300}-1.0.tar.gz"),
    ],
)
def test_what_is_no_filename_is_refused(filename: str) -> None:
    with pytest.raises(errors.BadPackage):
        names.parsed(filename)


def test_a_wheels_record_is_computed(tmp_path: Path) -> None:
    path = wheels.wheel(tmp_path, "Acme.Core", "1.0", ["b>=2"], requires_python=">=3.9")
    entry = records.derive(path, path.name)
    metadata = zipfile.ZipFile(path).read("acme_core-1.0.dist-info/METADATA")
    assert (entry.name, entry.version) == ("acme-core", "1.0")
    assert entry.sha256 == sha256(path.read_bytes())
    assert entry.size == path.stat().st_size
    assert entry.requires_python == ">=3.9"
    assert entry.core_metadata == {"sha256": sha256(metadata)}
    assert entry.url == f"../../files/acme-core/{path.name}"
    assert entry.upload_time.tzinfo == timezone.utc
    with path.open("rb") as file:
        file.seek(5)
        assert records.derive(file, path.name).sha256 == entry.sha256
    assert records.derive(path.read_bytes(), path.name).size == entry.size


@pytest.mark.parametrize(
    ("metadata_version", "extra", "static"),
    [
        ("2.1", "", False),
        ("2.2", "", True),
        ("2.4", "Dynamic: License\n", True),
        ("2.4", "Dynamic: Requires-Dist\n", False),
        ("2.2", "Dynamic: provides-extra\n", False),
    ],
)
def test_an_sdist_tells_its_metadata_only_if_it_is_static(
    tmp_path: Path, metadata_version: str, extra: str, static: bool
) -> None:
    path = wheels.sdist(tmp_path, metadata_version=metadata_version, extra=extra)
    assert bool(records.derive(path, path.name).core_metadata) == static


@pytest.mark.parametrize(
    "text",
    [
        *("", "Name: acme-core\n", "Name: other\nVersion: 1.0\n"),
        *("Name: acme-core\nVersion: 2.0\n", "Name: acme-core\nVersion: what\n"),
        # Twice: who reads the last one would see another project.
        *("Name: acme-core\nName: other\nVersion: 1.0\n",),
        *("Name: ../x\nVersion: 1.0\n",),
    ],
)
def test_metadata_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    for path in (wheels.wheel(tmp_path, text=text), wheels.sdist(tmp_path, text=text)):
        with pytest.raises(errors.BadPackage, match=path.name):
            records.derive(path, path.name)


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return held.getvalue()


def tarred(members: list[tuple[str, bytes, bytes]]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))
    return held.getvalue()


INFO = wheels.metadata("a", "1")
RECORD = "a-1.dist-info/RECORD"
HELD = {"a-1.dist-info/METADATA": INFO, "a.py": "", "d/": ""}
LISTED = "a-1.dist-info/METADATA,,\na.py,sha256=x,0\n"


@pytest.mark.parametrize(
    ("record", "more", "told"),
    [
        (f"{LISTED}{RECORD},,\n", "", ""),
        (LISTED, f"{RECORD}.jws {RECORD}.p7s", ""),
        (f'{LISTED}"b,c.py",,\r\n\r\n', "b,c.py", ""),
        (f"{LISTED}b\\c.py,,\n", "b/c.py", ""),  # built on Windows
        (None, "", "it holds no RECORD"),
        ("", "", "its RECORD does not list a-1.dist-info/METADATA"),
        (LISTED, "x.pth", "its RECORD does not list x.pth"),
        (LISTED, "a-1.dist-info/x", "its RECORD does not list a-1.dist-info/x"),
        (f"{LISTED}z,,\n", "", "its RECORD lists what it does not hold: z"),
        (LISTED.replace("a.py", "A.py"), "", "A.py"),
        (f"{LISTED}{'x' * 200_000},,\n", "", "damaged"),
        (f"{LISTED}\udcff,,\n", "", "damaged"),
    ],
)
def test_a_wheels_record_lists_what_it_holds(record: str | None, more: str, told: str) -> None:
    held: dict[str, str | bytes] = {**HELD, **dict.fromkeys(more.split(), "")}
    if record is not None:
        held[RECORD] = record.encode(errors="surrogateescape")
    data = zipped(held)
    if told:
        with pytest.raises(errors.BadPackage, match=re.escape(told)):
            records.derive(data, "a-1-py3-none-any.whl")
    else:
        records.derive(data, "a-1-py3-none-any.whl")
    records.derive(data, "a-1-py3-none-any.whl", recorded=False)


@pytest.mark.parametrize(
    ("filename", "data"),
    [
        ("a-1-py3-none-any.whl", b"no zip"),
        ("a-1-py3-none-any.whl", zipped({"a.py": ""})),
        ("a-1-py3-none-any.whl", zipped({"b-1.dist-info/METADATA": INFO})),
        ("a-1-py3-none-any.whl", zipped({"a-2.dist-info/METADATA": INFO})),
        (
            "a-1-py3-none-any.whl",
            zipped({"a-1.dist-info/METADATA": INFO, "A-1.dist-info/METADATA": INFO}),
        ),
        ("a-1-py3-none-any.whl", zipped({"a-1.dist-info/METADATA": INFO})[:-30]),
        ("a-1.tar.gz", b""),
        ("a-1.tar.gz", b"no gzip"),
        ("a-1.tar.gz", tarred([("a-1/x", tarfile.REGTYPE, b"")])),
        ("a-1.tar.gz", tarred([("a-1/PKG-INFO", tarfile.SYMTYPE, b"")])),
        ("a-1.tar.gz", tarred([("a-1/PKG-INFO", tarfile.REGTYPE, INFO.encode())] * 2)),
        ("a-1.tar.gz", tarred([("a-1/PKG-INFO", tarfile.REGTYPE, INFO.encode())])[:-20]),
        ("a-1.zip", zipped({"a-1/b/PKG-INFO": INFO})),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_bad_archives_are_refused(filename: str, data: bytes) -> None:
    with pytest.raises(errors.BadPackage, match=filename):
        records.derive(data, filename)


def test_metadata_that_unpacks_to_too_much_is_refused() -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a-1.dist-info/METADATA", INFO + "\n" + " " * (17 << 20))
    with pytest.raises(errors.BadPackage, match="16 MiB"):
        records.derive(held.getvalue(), "a-1-py3-none-any.whl")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_metadata_is_compressed_so_that_reading_it_is_bounded(method: int) -> None:
    """The others unpack a block whole: 45 bytes may become 45 MB."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        archive.writestr("a-1.dist-info/METADATA", INFO)
    with pytest.raises(errors.BadPackage, match="neither stored nor deflated"):
        records.derive(held.getvalue(), "a-1-py3-none-any.whl")


def test_a_wheel_with_an_endless_directory_is_refused() -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a-1.dist-info/METADATA", INFO)
        for n in range(400):
            info = zipfile.ZipInfo(f"{n}")
            info.comment = bytes(65_535)
            archive.writestr(info, "")
    with pytest.raises(errors.BadPackage, match="too large"):
        records.derive(held.getvalue(), "a-1-py3-none-any.whl")


def test_a_wheel_with_two_files_of_one_name_is_refused() -> None:
    """Installers differ in which one they take."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a-1.dist-info/METADATA", INFO)
        archive.writestr("a.py", "good = 1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.py", "evil = 1")
    with pytest.raises(errors.BadPackage, match=r"two files called a\.py"):
        records.derive(held.getvalue(), "a-1-py3-none-any.whl")


def endless(kind: bytes) -> bytes:
    """Return an archive whose first header goes on for 40 MiB, in some 40 KB."""
    info = tarfile.TarInfo("a-1/x")
    info.type, info.size = kind, 40 << 20
    held = io.BytesIO()
    with gzip.GzipFile(fileobj=held, mode="wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(40 << 20))
        good = tarfile.TarInfo("a-1/PKG-INFO")
        good.size = len(INFO)
        file.write(good.tobuf() + INFO.encode().ljust(1024, b"\0") + bytes(1024))
    return held.getvalue()


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_a_header_that_unpacks_to_too_much_is_refused(kind: bytes) -> None:
    with pytest.raises(errors.BadPackage, match="too large"):
        records.derive(endless(kind), "a-1.tar.gz")


def test_a_sparse_file_is_refused() -> None:
    held = io.BytesIO()
    with gzip.GzipFile(fileobj=held, mode="wb") as file:
        info = tarfile.TarInfo("a-1/x")
        info.type = tarfile.GNUTYPE_SPARSE
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        good = tarfile.TarInfo("a-1/PKG-INFO")
        good.size = len(INFO)
        file.write(good.tobuf() + INFO.encode().ljust(1024, b"\0") + bytes(1024))
    with pytest.raises(errors.BadPackage, match="sparse"):
        records.derive(held.getvalue(), "a-1.tar.gz")


def test_the_members_of_an_archive_are_not_kept_in_memory() -> None:
    members = [(f"a-1/{n}", tarfile.REGTYPE, b"") for n in range(12_000)]
    data = tarred([*members, ("a-1/PKG-INFO", tarfile.REGTYPE, INFO.encode())])
    tracemalloc.start()
    try:
        records.derive(data, "a-1.tar.gz")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def entry(tmp_path: Path) -> records.Entry:
    path = wheels.wheel(tmp_path, requires_python=">=3.9")
    when = datetime(2024, 5, 6, 7, 8, 9, 120, timezone.utc)
    return records.derive(
        path, path.name, upload_time=when, yanked="broken", origin="https://x/simple/acme-core/"
    )


def test_records_are_stored_by_filename(tmp_path: Path) -> None:
    made = entry(tmp_path)
    data = records.encode({made.filename: made})
    stored = json.loads(data)[made.filename]
    assert stored["requires-python"] == ">=3.9"
    assert stored["upload-time"] == "2024-05-06T07:08:09.000120Z"
    assert stored["_source"] == "https://x/simple/acme-core/"
    assert stored["yanked"] == "broken"
    assert data.endswith(b"}\n")
    assert records.decode(data, "python/acme-core/1.0.json") == {made.filename: made}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("filename", "acme_core-2.0-py3-none-any.whl"), ("url", "https://evil/x.whl")),
        *(("url", "../../files/other/acme_core-1.0-py3-none-any.whl"), ("hashes", {})),
        *(("hashes", {"sha256": "0" * 63}), ("hashes", {"sha256": "0" * 64 + "\n"})),
        *(("size", -1), ("size", "1"), ("upload-time", "2024-05-06T07:08:09")),
        *(("core-metadata", {"sha256": "x"}), ("yanked", 3), ("yanked", "a\x1b[2J")),
        ("requires-python", ">=3\n"),
    ],
)
def test_records_that_cant_be_true_are_refused(tmp_path: Path, field: str, value: object) -> None:
    made = entry(tmp_path)
    stored = json.loads(records.encode({made.filename: made}))
    stored[made.filename][field] = value
    with pytest.raises(errors.BadRecord):
        records.decode(json.dumps(stored).encode(), "python/acme-core/1.0.json")


@pytest.mark.parametrize("path", ["python/acme-core/1.1.json", "python/other/1.0.json"])
def test_records_of_another_version_are_refused(tmp_path: Path, path: str) -> None:
    made = entry(tmp_path)
    with pytest.raises(errors.BadRecord):
        records.decode(records.encode({made.filename: made}), path)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"status": "gone"}'])
def test_damaged_documents_are_refused(data: bytes) -> None:
    with pytest.raises(errors.BadRecord):
        records.decode(data, "python/a/1.json")
    with pytest.raises(errors.BadRecord):
        records.decode_status(data, "python/a/project.json")
