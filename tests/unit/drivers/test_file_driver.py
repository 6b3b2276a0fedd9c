"""The directory driver beyond the contract: modes, faults, what must not leave the directory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dorky import errors, files
from dorky.drivers.file import FileDriver


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "a" / "vault"


@pytest.fixture
def driver(root: Path) -> FileDriver:
    return FileDriver.open(str(root), {})


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_reading_makes_nothing(driver: FileDriver, root: Path) -> None:
    with pytest.raises(errors.KeyNotFound):
        driver.get("root")
    assert list(driver.list("")) == []
    driver.delete(["root"])
    assert not root.parent.exists()


def test_files_are_private(driver: FileDriver, root: Path) -> None:
    driver.swap("root", b"x", expected=None)
    driver.put("packs/a", b"x")
    for directory in (root, root.parent, root / "packs"):
        assert mode(directory) == 0o700
    for file in ("root", "packs/a", ".lock"):
        assert mode(root / file) == 0o600


def test_a_shared_directory_stays_shared(driver: FileDriver, root: Path) -> None:
    root.mkdir(parents=True)
    root.chmod(0o2770)
    old = os.umask(0o077)
    try:
        driver.swap("root", b"x", expected=None)
        driver.put("packs/a", b"x")
    finally:
        os.umask(old)
    assert mode(root / "packs") == 0o2770
    assert mode(root / "packs" / "a") == mode(root / "root") == mode(root / ".lock") == 0o660


def test_own_files_are_not_listed(driver: FileDriver, root: Path) -> None:
    driver.swap("root", b"x", expected=None)
    (root / ".tmp-left-behind").write_bytes(b"x")
    assert [stat.key for stat in driver.list("")] == ["root"]


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/x", "", "a//b", ".lock", "a/.b", "a\0"])
def test_keys_stay_inside(driver: FileDriver, root: Path, key: str) -> None:
    for call in (
        lambda: driver.get(key),
        lambda: driver.get_range(key, 0, 1),
        lambda: driver.put(key, b"x"),
        lambda: driver.swap(key, b"x", expected=None),
        lambda: driver.delete([key]),
    ):
        with pytest.raises(errors.UnsafePath):
            call()
    assert [path.name for path in root.parent.rglob("*") if path.is_file()] in ([], [".lock"])


def test_versions_are_hashes_of_the_content(driver: FileDriver) -> None:
    version = driver.swap("root", b"abc", expected=None)
    assert version.startswith("ba7816bf")
    driver.put("root", b"abc")
    assert driver.get("root", unless=version) is None


def test_processes_exclude_each_other(driver: FileDriver, root: Path) -> None:
    """The lock holds between processes, not only between threads of one."""
    program = (
        "import sys; from dorky import errors; from dorky.drivers.file import FileDriver\n"
        "driver, won = FileDriver.open(sys.argv[1], {}), 0\n"
        "while won < 20:\n"
        "    old = driver.get('root')\n"
        "    try: driver.swap('root', b'%d' % (int(old.data) + 1), expected=old.version)\n"
        "    except errors.PreconditionFailed: continue\n"
        "    won += 1\n"
    )
    driver.put("root", b"0")
    command = [sys.executable, "-c", program, str(root)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for process in [subprocess.Popen(command, env=env) for _ in range(3)]:
        assert process.wait() == 0
    blob = driver.get("root")
    assert blob
    assert blob.data == b"60"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, errors.DiskFull),
        (errno.EDQUOT, errors.DiskFull),
        (errno.EACCES, errors.AccessDenied),
        (errno.EPERM, errors.AccessDenied),
        (errno.EIO, errors.DiskError),
        (errno.ESTALE, errors.DiskError),
    ],
)
def test_faults_of_the_disk(
    driver: FileDriver,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[errors.DorkyError],
) -> None:
    driver.put("root", b"before")

    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    version = driver.get("root").version  # type: ignore[union-attr]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        for write in (
            lambda: driver.put("root", b"after"),
            lambda: driver.swap("root", b"after", expected=version),
        ):
            with pytest.raises(kind) as caught:
                write()
            assert str(root) in caught.value.message
    assert driver.get("root").data == b"before"  # type: ignore[union-attr]
    assert {path.name for path in root.iterdir()} <= {"root", ".lock"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_no_permission(driver: FileDriver, root: Path) -> None:
    driver.put("root", b"x")
    (root / "root").chmod(0)
    with pytest.raises(errors.AccessDenied):
        driver.get("root")


def test_a_file_where_the_directory_should_be(root: Path) -> None:
    root.parent.mkdir()
    root.write_text("a file")
    driver = FileDriver.open(str(root), {})
    with pytest.raises(errors.KeyNotFound):
        driver.get("root")
    with pytest.raises(errors.DiskError):
        driver.put("root", b"x")


def test_a_directory_is_no_object(driver: FileDriver) -> None:
    driver.put("packs/a", b"x")
    with pytest.raises(errors.KeyNotFound):
        driver.get("packs")


def test_a_directory_is_tidied_once(
    driver: FileDriver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is listed for that, and there may be thousands of packs in it."""
    listed = []
    sweep = files.sweep

    def watched(name: str, *, within: int) -> None:
        listed.append(Path(f"/proc/self/fd/{within}").readlink())
        sweep(name, within=within)

    monkeypatch.setattr(files, "sweep", watched)
    for n in range(3):
        driver.put(f"packs/{n}", b"x")
    version = driver.swap("root", b"x", expected=None)
    driver.swap("root", b"y", expected=version)
    assert listed == [root / "packs", root]
