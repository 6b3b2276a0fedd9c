"""Files: whole or not at all, in nobody else's sight, and never outside."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors, files

LINK = stat.S_IFLNK
FILE = stat.S_IFREG


@pytest.fixture(params=[0o000, 0o077], ids="umask {:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    old = os.umask(request.param)
    yield
    os.umask(old)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


# --- write_atomic ---------------------------------------------------------------------------


def test_a_file_is_replaced(tmp_path: Path, umask: None) -> None:
    path = tmp_path / "file"
    files.write_atomic(path, b"old", mode=0o644)
    assert mode_of(path) == 0o644
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode_of(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_are_durable_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    happened: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def watched_fsync(fd: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"{os.fstat(fd).st_size} B"
        happened.append(f"sync {kind}")
        fsync(fd)

    def watched_rename(self: Path, target: Path) -> Path:
        happened.append(f"rename {mode_of(self):o}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    files.write_atomic(path, b"12345", mode=0o640)
    assert happened == ["sync 5 B", "rename 640", "sync directory"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_modes_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fchmod", failing(number))
    files.write_atomic(tmp_path / "file", b"1", mode=0o644)
    files.write_stream(tmp_path / "other", FILE | 0o644, [b"2"])
    assert mode_of(tmp_path / "file") == mode_of(tmp_path / "other") == 0o600


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES])
def test_a_disk_that_syncs_no_directories_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fsync = os.fsync

    def refuse(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuse)
    files.write_atomic(tmp_path / "file", b"1")
    assert (tmp_path / "file").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("call", "number", "error"),
    [
        (call, number, error)
        for call in ("fchmod", "fsync", "rename")
        for number, error in [
            (errno.ENOSPC, errors.DiskFull),
            (errno.EDQUOT, errors.DiskFull),
            (errno.EIO, errors.DiskError),
            (errno.EROFS, errors.DiskError),
            (errno.EACCES, errors.UnreadableFile),
        ]
        if (call, number) != ("fchmod", errno.EACCES)
    ],
)
def test_a_failure_leaves_the_old_file_and_no_other(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    error: type[errors.DorkyError],
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with monkeypatch.context() as broken:
        broken.setattr(Path if call == "rename" else os, call, failing(number))
        with pytest.raises(error) as caught:
            files.write_atomic(path, b"new")
    assert str(path) in caught.value.message
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_atomic(path, b"first", replace=False)
    with pytest.raises(errors.DiskError, match="exists"):
        files.write_atomic(path, b"second", replace=False)
    assert path.read_bytes() == b"first"
    assert path.stat().st_nlink == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.DiskError, match="none/file"):
        files.write_atomic(tmp_path / "none" / "file", b"")


# --- write_stream ---------------------------------------------------------------------------


def test_content_is_never_in_a_file_that_others_can_read(tmp_path: Path, umask: None) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def blocks() -> Iterator[bytes]:
        for block in (b"one ", b"two"):
            yield block
            (scratch,) = (each for each in tmp_path.iterdir() if each != path)
            assert mode_of(scratch) == 0o600
            assert path.read_bytes() == b"old"

    files.write_stream(path, FILE | 0o644, blocks())
    assert path.read_bytes() == b"one two"
    assert mode_of(path) == 0o644
    assert list(tmp_path.iterdir()) == [path]


@contextlib.contextmanager
def two_mounts(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[int, int]]:
    """Two directories, opened; nothing can be renamed from one into the other."""
    rename = os.rename

    def refuse(path: str, to: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if src_dir_fd != dst_dir_fd:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(path, to, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", refuse)
    source, into = (os.open(each, os.O_RDONLY) for each in (here, there))
    try:
        yield source, into
    finally:
        os.close(source)
        os.close(into)


@pytest.mark.parametrize("mode", [FILE | 0o640, FILE, LINK])
def test_a_file_is_moved_to_another_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for each in (here, there):
        each.mkdir()
    target = there / "file"
    files.write_new(here / "new", mode, [b"x"], about=target)
    with two_mounts(here, there, monkeypatch) as (source, into):
        files.move("new", source, "file", into)
    assert not list(here.iterdir())
    assert list(there.iterdir()) == [target]
    if mode == LINK:
        assert target.readlink() == Path("x")
    else:
        assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(mode)
        target.chmod(0o600)
        assert target.read_bytes() == b"x"


def test_a_move_to_another_mount_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (there / "taken").mkdir(parents=True)
    (here / "new").write_bytes(b"x")
    with (
        two_mounts(here, there, monkeypatch) as (source, into),
        pytest.raises(IsADirectoryError),
    ):
        files.move("new", source, "taken", into)
    assert [each.name for each in there.iterdir()] == ["taken"]
    assert (here / "new").read_bytes() == b"x"


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o600, 0o755, 0o777])
def test_permissions_are_as_recorded(tmp_path: Path, umask: None, mode: int) -> None:
    files.write_stream(tmp_path / "file", FILE | mode, [b"x"])
    assert mode_of(tmp_path / "file") == mode


@pytest.mark.parametrize("bits", [stat.S_ISUID, stat.S_ISGID, stat.S_ISVTX, 0o7000])
def test_no_file_gets_to_run_as_somebody_else(tmp_path: Path, bits: int) -> None:
    files.write_stream(tmp_path / "file", FILE | bits | 0o755, [b"x"])
    assert mode_of(tmp_path / "file") == 0o755


def test_who_holds_the_old_file_keeps_it(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"old")
    other.hardlink_to(path)
    with path.open("rb") as held:
        files.write_stream(path, FILE | 0o600, [b"new"])
        assert held.read() == b"old"
    assert other.read_bytes() == b"old"


def test_a_link_in_the_way_is_replaced_not_followed(tmp_path: Path) -> None:
    outside, path = tmp_path / "outside", tmp_path / "file"
    outside.write_bytes(b"theirs")
    path.symlink_to(outside)
    files.write_stream(path, FILE | 0o600, [b"new"])
    assert not path.is_symlink()
    assert outside.read_bytes() == b"theirs"
    files.write_stream(path, LINK, [b"out", b"side"])
    assert path.readlink() == Path("outside")
    files.write_stream(path, LINK, [b"no\xffwhere"])
    assert os.fsencode(path.readlink()) == b"no\xffwhere"
    assert outside.read_bytes() == b"theirs"


@pytest.mark.parametrize(
    "target", [b"a\0b", b"\0", b"x" * 4097], ids=["NUL", "nothing but NUL", "too long"]
)
def test_links_that_can_not_be(tmp_path: Path, target: bytes) -> None:
    path = tmp_path / "link"
    path.write_bytes(b"old")
    with pytest.raises(errors.UnsafePath, match="'link'"):
        files.write_stream(path, LINK, [target])
    with pytest.raises(errors.DiskError):
        files.write_stream(path, LINK, [])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(10):
            yield b"x" * 1000
        pytest.fail("read on")

    with pytest.raises(errors.UnsafePath):
        files.write_stream(tmp_path / "link", LINK, endless())


@pytest.mark.parametrize("mode", [FILE | 0o644, LINK])
def test_a_stream_that_breaks_off_leaves_the_old_file(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def blocks() -> Iterator[bytes]:
        yield b"half"
        raise errors.CorruptObject("1234", "damaged")

    with pytest.raises(errors.CorruptObject):
        files.write_stream(path, mode, blocks())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fchmod", failing(errno.ENOSPC))
    with pytest.raises(errors.DiskFull):
        files.write_stream(path, FILE | 0o644, [b"new"])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "dir" / "below").mkdir(parents=True)
    with pytest.raises(errors.DiskError, match="dir"):
        files.write_stream(tmp_path / "dir", FILE | 0o644, [b"x"])
    assert [each.name for each in tmp_path.iterdir()] == ["dir"]


# --- locks ----------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from dorky import files
with files.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLDER, tmp_path / "lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_the_holder_is_named(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    with (
        pytest.raises(errors.Locked, match=f"process {holder.pid}"),
        files.locked(tmp_path / "lock", timeout=0),
    ):
        pytest.fail("both hold it")


def test_a_killed_holder_blocks_nobody(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    # Whether it dies before or while we wait.
    threading.Thread(target=holder.kill).start()
    with files.locked(tmp_path / "lock", timeout=60):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_excludes_threads_and_can_be_had_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(2):
        with files.locked(path):
            assert mode_of(path) == 0o600
            assert path.read_text() == f"{os.getpid()}\n"
            with (
                pytest.raises(errors.Locked, match=str(os.getpid())),
                files.locked(path, timeout=0),
            ):
                pytest.fail("held twice")
    with pytest.raises(KeyError), files.locked(path):
        raise KeyError
    with files.locked(path, timeout=0):
        pass


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_child_that_is_forked_keeps_no_lock(tmp_path: Path) -> None:
    waiting, going = os.pipe()
    with files.locked(tmp_path / "lock"):
        pid = os.fork()
        if pid == 0:
            os.close(going)
            os.read(waiting, 1)  # until the parent has ended, or has closed its end
            os._exit(0)
    with files.locked(tmp_path / "lock", timeout=5):
        os.close(going)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(waiting)


def test_who_holds_a_lock_may_not_be_known(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with files.locked(path):
        path.write_bytes(b"")
        with pytest.raises(errors.Locked, match="unknown"), files.locked(path, timeout=0):
            pytest.fail("held twice")
    path.write_text("a process with a very long number\n")
    with files.locked(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_lock_nowhere(tmp_path: Path) -> None:
    with (
        pytest.raises(errors.DiskError, match="none/lock"),
        files.locked(tmp_path / "none" / "lock"),
    ):
        pytest.fail("locked nothing")


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("a<b", "a>b", "a:b", 'a"b', "a|b", "a?b", "a*b", "a\\b"),
        *("trailing.", "trailing ", "trailing. ", " "),
        *(
            "con",
            "CON",
            "Con.txt",
            "prn",
            "aux.tar.gz",
            "nul",
            "NUL ",
            "nul .txt",
            "conin$",
            "CONOUT$",
        ),
        *("com1", "COM9.log", "lpt1", "LPT9", "com¹", "lpt³.x"),
    ],
)
def test_names_that_windows_lacks(name: str) -> None:
    reason = files.unportable(name)
    assert reason
    assert "Windows" in reason


@pytest.mark.parametrize(
    "name",
    [
        *(
            "a",
            ".env",
            "a b",
            " a",
            "console",
            "con-fig",
            "con_",
            "com",
            "com0",
            "com10",
            "lpt",
            "nulls",
        ),
        *(
            "auxiliary.txt",
            "x.con",
            "é",
            "👩\u200d🚀",
            "new\nline",
            "tab\t",
            "~$x",
            "%PATH%",
            "-",
            "'",
        ),
    ],
)
def test_names_that_windows_has(name: str) -> None:
    assert files.unportable(name) is None
    assert files.unsafe(name) is None


@pytest.mark.parametrize("path", ["a", "a/b", ".env", "a/.gitignore", "...", "a/..b/c", "~/x", "-"])
def test_paths_inside(path: str) -> None:
    files.check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/a", "a//b", "a/", "./a", "a/.", "..", "../a", "a/../b", "a/..", "a\0"),
        *(
            ".git",
            ".git/hooks/x",
            "a/.GIT/x",
            "a/.git",
            ".dorky/packs",
            "a/git~1/x",
            ".g\u200cit/x",
        ),
    ],
    ids=ascii,
)
def test_paths_outside(path: str) -> None:
    with pytest.raises(errors.UnsafePath) as caught:
        files.check_path(path)
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()


@given(st.text(max_size=8), st.sampled_from([".git", ".dorky"]))
def test_decoration_does_not_make_a_directory_of_ours_safe(text: str, name: str) -> None:
    for decorated in (name.upper() + ":" + text, name + " ." * len(text)):
        assert files.unsafe(decorated)


@given(st.text(max_size=8))
def test_whatever_is_safe_stays_in_its_directory(text: str) -> None:
    if files.unsafe(text) is None:
        assert text not in {"", ".", ".."}
        assert not set(text) & {"/", "\0"}


def test_temporary_names_do_not_meet(tmp_path: Path) -> None:
    found = {files.temporary(tmp_path) for _ in range(100)}
    assert len(found) == 100
    assert {path.parent for path in found} == {tmp_path}


def test_what_killed_writers_left_is_swept_up_after_a_day(tmp_path: Path) -> None:
    old, young = files.temporary(tmp_path), files.temporary(tmp_path)
    others = [tmp_path / name for name in (".tmp-x", ".tmp-dorky-x", "old")]
    for path in (old, young, *others):
        path.touch()
    for path in (old, *others):
        os.utime(path, (0, 0))
    files.write_atomic(tmp_path / "new", b"1")
    assert set(tmp_path.iterdir()) == {young, *others, tmp_path / "new"}


@pytest.mark.parametrize("mode", [stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777])
def test_a_file_that_appears_while_another_arrives_is_not_replaced(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "new"

    def blocks() -> Iterator[bytes]:
        yield b"theirs"
        path.write_bytes(b"mine")

    with pytest.raises(errors.LocalChanges):
        files.write_stream(path, mode, blocks(), replace=False)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()
    files.write_stream(path, mode, [b"theirs"], replace=False)
    assert str(path.readlink() if stat.S_ISLNK(mode) else path.read_text()) == "theirs"
    files.write_stream(path, mode, [b"others"])
    assert list(tmp_path.iterdir()) == [path]
