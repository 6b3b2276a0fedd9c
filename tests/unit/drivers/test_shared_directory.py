"""A directory that others may write to: what they can put there leads nobody elsewhere."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import Machine
from servers import Remote

from dorky import errors
from dorky.drivers.base import LIMIT, Version
from dorky.drivers.file import FileDriver

SECRET = b"the victim's key"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "vault"
    made.mkdir()
    made.chmod(0o2770)
    return made


@pytest.fixture
def driver(root: Path) -> FileDriver:
    return FileDriver.open(str(root), {})


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file and a directory outside; whatever is done, they stay as they are."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    key = outside / "id_ed25519"
    key.write_bytes(SECRET)
    key.chmod(0o600)
    old = outside / f".tmp-dorky-{'0' * 16}"
    old.write_bytes(SECRET)
    os.utime(old, (1, 1))
    before = state(outside)
    yield key
    assert state(outside) == before
    assert key.read_bytes() == SECRET


def state(directory: Path) -> list[tuple[str, int, int]]:
    paths = [directory, *sorted(directory.iterdir())]
    return [(path.name, path.stat().st_mode, path.stat().st_ino) for path in paths]


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Fails if what is inside waits for somebody."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 5


def plant_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


PLANTED: dict[str, Callable[[Path, Path], None]] = {
    "link": lambda path, victim: path.symlink_to(victim),
    "dangling": lambda path, victim: path.symlink_to(victim.with_name("new")),
    "endless": lambda path, victim: path.symlink_to("/dev/zero"),
    "pipe": lambda path, victim: os.mkfifo(path),
    "socket": lambda path, victim: plant_socket(path),
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED.keys())
def test_what_is_no_file_is_not_read(
    driver: FileDriver, root: Path, victim: Path, plant: Callable[[Path, Path], None]
) -> None:
    plant(root / "root", victim)
    calls: list[Callable[[], object]] = [
        lambda: driver.get("root"),
        lambda: driver.get("root", unless=Version("x")),
        lambda: driver.get_range("root", 0, 1),
        lambda: driver.swap("root", b"x", expected=None),
        lambda: driver.swap("root", b"x", expected=Version("x")),
    ]
    for call in calls:
        with at_once(), pytest.raises(errors.NotAFile, match=r"root in .* is a "):
            call()
    assert list(driver.list("")) == []


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED.keys())
def test_what_is_no_file_can_be_replaced_and_deleted(
    driver: FileDriver, root: Path, victim: Path, plant: Callable[[Path, Path], None]
) -> None:
    plant(root / "root", victim)
    with at_once():
        driver.put("root", b"x")
    blob = driver.get("root")
    assert blob
    assert blob.data == b"x"
    (root / "root").unlink()
    plant(root / "root", victim)
    driver.delete(["root"])
    assert not os.path.lexists(root / "root")


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED.keys())
def test_the_lock_is_no_way_out(
    driver: FileDriver, root: Path, victim: Path, plant: Callable[[Path, Path], None]
) -> None:
    """It was followed, and the file that it led to opened to the group."""
    driver.put("root", b"before")
    plant(root / ".lock", victim)
    with at_once(), pytest.raises(errors.NotAFile, match=r"\.lock in "):
        driver.swap("root", b"x", expected=None)
    assert not victim.with_name("new").exists()


def test_the_lock_is_no_second_name(driver: FileDriver, root: Path, victim: Path) -> None:
    os.link(victim, root / ".lock")
    with pytest.raises(errors.NotAFile, match="second name"):
        driver.swap("root", b"x", expected=None)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    (root / ".lock").unlink()


@pytest.mark.parametrize("depth", ["packs", "packs/deep"])
def test_no_directory_is_a_way_out(
    driver: FileDriver, root: Path, victim: Path, depth: str
) -> None:
    folder = root / depth
    folder.parent.mkdir(exist_ok=True)
    folder.symlink_to(victim.parent)
    key = f"{depth}/{victim.name}"
    calls: list[Callable[[], object]] = [
        lambda: driver.get(key),
        lambda: driver.get_range(key, 0, 1),
        lambda: driver.put(key, b"x"),
        lambda: driver.put(f"{depth}/new", b"x"),
        lambda: driver.put(f"{depth}/new/er", b"x"),
        lambda: driver.swap(key, b"x", expected=None),
        lambda: driver.delete([key]),
        lambda: list(driver.list(f"{depth}/")),
    ]
    for call in calls:
        with pytest.raises(errors.NotAFile, match="is a link"):
            call()
    assert list(driver.list("")) == []


def test_half_written_files_elsewhere_stay(driver: FileDriver, root: Path, victim: Path) -> None:
    """The directory is swapped for a link while a file is written in it."""
    folder, aside = root / "packs", root / "aside"
    rename = os.rename

    def swapped(*arguments: object, **options: object) -> None:
        rename(*arguments, **options)  # type: ignore[arg-type]
        rename(folder, aside)
        folder.symlink_to(victim.parent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", swapped)
        driver.put("packs/a", b"x")
    assert (aside / "a").read_bytes() == b"x"


def test_links_to_the_directory_itself_are_the_users_own(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    driver = FileDriver.open(str(link / "below"), {})
    driver.put("packs/a", b"x")
    assert (root / "below" / "packs" / "a").read_bytes() == b"x"


def test_a_list_survives_what_others_do(driver: FileDriver, root: Path) -> None:
    """Times that no calendar has, directories without a bottom, names that are no keys."""
    driver.put("packs/a", b"x")
    with contextlib.suppress(OSError):  # few file systems know such a time
        os.utime(root / "packs" / "a", (1 << 40, 1 << 40))
    folder = os.open(root, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    (stat,) = driver.list("")
    assert stat.key == "packs/a"
    assert stat.modified.year <= 9999


def test_no_descriptor_is_left_open(driver: FileDriver, root: Path, victim: Path) -> None:
    (root / "link").symlink_to(victim)
    driver.put("packs/a", b"x")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        for key in ("packs/a", "packs/none", "link", "packs", "link/x", "none/x"):
            with contextlib.suppress(errors.DorkyError):
                driver.get(key)
            with contextlib.suppress(errors.DorkyError):
                driver.swap(key, b"x", expected=Version("x"))
        list(driver.list(""))
        driver.delete(["packs/none"])
    # Those of other tests may be closed meanwhile, when they are collected.
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


# --- sizes ----------------------------------------------------------------------------------

_PEAK = """
import resource, sys
from dorky import errors
from dorky.drivers import open_driver
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
driver = open_driver(sys.argv[1], {})
for call in (lambda: driver.get("root"), lambda: driver.swap("root", b"x", expected="x")):
    try:
        call()
    except (errors.TooLarge, errors.PreconditionFailed) as error:
        print(error.code)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_large_sparse_root_costs_no_memory(driver: FileDriver, root: Path) -> None:
    with (root / "root").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(errors.TooLarge, match=f"{LIMIT:,} bytes"):
        driver.get("root")
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *codes, peak = done.stdout.split()
    assert codes == ["too-large", "precondition-failed"]
    assert int(peak) < 30, "MiB"


@pytest.mark.parametrize("plant", ["large", "pipe", "link"])
def test_a_clone_says_at_once_what_was_done(ana: Machine, file_url: Remote, plant: str) -> None:
    ana("init", file_url.url)
    ana.commit({".env": "A=1"}, "first")
    ana("push")
    fresh = ana.another("ben")
    fresh.write(".dorkyrc", ana.read(".dorkyrc"))
    root = Path(file_url.url) / "root"
    good = root.read_bytes()
    root.unlink()
    if plant == "large":
        with root.open("wb") as file:
            file.truncate(40 << 30)
    else:
        PLANTED[plant](root, ana.identity)
    ana.commit({".env": "A=2"}, "second")
    for machine, command in (
        (fresh, "pull"),
        (ana, "pull"),
        (ana, "push"),
        (ana, "sync"),
        (ana, "fsck --remote"),
    ):
        with at_once():
            done = machine.run(*command.split())
        assert done.code == 7, done
    root.unlink()
    root.write_bytes(good)
    ana("push")


# --- two users ------------------------------------------------------------------------------

# Becomes another user, of the group that the directory is shared with, and does something there.
_AS_ANOTHER = """
import os, sys
from dorky.drivers.file import FileDriver
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
os.umask(0o022)
driver = FileDriver.open(sys.argv[3], {})
exec(sys.argv[4])
"""


def as_user(user: int, group: int, root: Path, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _AS_ANOTHER, str(user), str(group), str(root), program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


@pytest.fixture
def common(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that the users 2001 and 2002 share, and others can't enter."""
    if os.geteuid():
        pytest.skip("only root can become two users")
    with tempfile.TemporaryDirectory(prefix="shared-") as base:
        Path(base).chmod(0o755)
        made = Path(base) / "vault"
        made.mkdir()
        os.chown(made, 2001, 3000)
        made.chmod(0o2770)
        yield made


def test_two_users_share_a_directory(common: Path) -> None:
    """What one has written the other reads, replaces, swaps and deletes."""
    version = as_user(
        2001,
        3000,
        common,
        "driver.put('packs/a', b'1'); print(driver.swap('root', b'one', expected=None))",
    )
    swapped = as_user(
        2002,
        3000,
        common,
        f"print(driver.swap('root', b'two', expected={version!r})); "
        "driver.put('packs/a', b'2'); driver.put('packs/b', b'2')",
    )
    told = as_user(
        2001,
        3000,
        common,
        f"print(driver.get('root', unless={swapped!r}), "
        "driver.get('packs/a').data, *[each.key for each in driver.list('')]); "
        "driver.delete(['packs/b', 'packs/a'])",
    )
    assert told == "None b'2' packs/a packs/b root"
    assert list((common / "packs").iterdir()) == []


def test_one_user_can_not_lead_the_other_away(common: Path) -> None:
    """The lock, the root and the packs as links of another user to the first one's key."""
    home = common.parent / "home"
    home.mkdir(mode=0o700)
    key = home / "id_ed25519"
    key.write_bytes(SECRET)
    key.chmod(0o600)
    for path in (home, key):
        os.chown(path, 2001, 2001)
    as_user(2001, 3000, common, "driver.swap('root', b'one', expected=None)")
    as_user(
        2002,
        3000,
        common,
        f"import os; os.chdir({str(common)!r}); os.unlink('.lock'); "
        f"os.symlink({str(key)!r}, '.lock'); os.symlink({str(home)!r}, 'packs')",
    )
    program = (
        "from dorky import errors\n"
        "for act in (lambda: driver.swap('root', b'x', expected=None),\n"
        "            lambda: driver.put('packs/id_ed25519', b'x'),\n"
        "            lambda: driver.delete(['packs/id_ed25519']),\n"
        "            lambda: driver.get('packs/id_ed25519')):\n"
        "    try: print(act())\n"
        "    except errors.NotAFile as error: print('refused')"
    )
    assert as_user(2001, 3000, common, program).split() == ["refused"] * 4
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_bytes() == SECRET
