"""The data that is pushed about: made once a run, the same in every run."""

from __future__ import annotations

import filecmp
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20
PER_DIRECTORY = 1000
TINY = 1000
"""The directories of tiny files."""


class Different(Exception):
    """What a tool brought is not what it was given."""


class Samples:
    """Directories of sample data; each is made when it is first asked for.

    Args:
        directory: Where they are kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def env(self) -> Path:
        """One `.env` of twenty lines."""

        def make(path: Path) -> None:
            chance = random.Random(1)
            lines = [f"SERVICE_{n}_KEY={chance.randbytes(20).hex()}\n" for n in range(20)]
            (path / ".env").write_text("".join(lines))

        return self._made("env", make)

    def small(self, count: int) -> Path:
        """As many files of 4 KiB that don't compress, a thousand to a directory."""

        def make(path: Path) -> None:
            chance = random.Random(count)
            for n in range(count):
                directory = path / f"{n // PER_DIRECTORY:03}"
                if n % PER_DIRECTORY == 0:
                    directory.mkdir()
                (directory / f"{n % PER_DIRECTORY:03}.bin").write_bytes(chance.randbytes(4 * KIB))

        return self._made(f"small-{count}", make)

    def tiny(self, count: int) -> Path:
        """As many files of 1 KiB that don't compress, in a thousand directories."""

        def make(path: Path) -> None:
            chance = random.Random(count)
            for n in range(TINY):
                (path / f"{n:03}").mkdir()
            for n in range(count):
                (path / f"{n % TINY:03}" / f"{n // TINY:04}.bin").write_bytes(chance.randbytes(KIB))

        return self._made(f"tiny-{count}", make)

    def noise(self, size: int) -> Path:
        """One file that doesn't compress; its size is in MiB."""
        chance = random.Random(size)
        return self._large(f"noise-{size}", size, lambda: chance.randbytes(MIB))

    def text(self, size: int) -> Path:
        """One file of words and numbers, of which no part comes twice; its size is in MiB."""
        chance = random.Random(size)
        letters = "etaoinshrdlu"
        words = ["".join(chance.choices(letters, k=chance.randint(2, 11))) for _ in range(4000)]
        words += [str(number) for number in range(96)]

        def block() -> bytes:
            return " ".join(chance.choices(words, k=MIB // 5)).encode()[: MIB - 1] + b"\n"

        return self._large(f"text-{size}", size, block)

    def _large(self, name: str, size: int, block: Callable[[], bytes]) -> Path:
        def make(path: Path) -> None:
            with (path / "large.bin").open("wb") as stream:
                for _ in range(size):
                    stream.write(block())

        return self._made(name, make)

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        path = self._directory / name
        if not path.exists():
            path.mkdir(parents=True)
            make(path)
        return path


def copy(source: Path, target: Path) -> None:
    """Copy sample data, with its times, so that nothing in it was changed just now."""
    shutil.copytree(source, target)


def change(directory: Path) -> Path:
    """Change the first file a little: its size too, for tools that look at nothing else."""
    path = min(path for path in directory.rglob("*") if path.is_file() and path.suffix != ".dvc")
    with path.open("ab") as stream:
        stream.write(b"CHANGED=1\n")
    return path


def put_in_front(directory: Path) -> None:
    """Put one byte in front of the large file."""
    path = directory / "large.bin"
    moved = directory / "moved"
    with path.open("rb") as old, moved.open("wb") as new:
        new.write(b"!")
        shutil.copyfileobj(old, new, MIB)
    moved.replace(path)


def check_equal(expected: Path, found: Path) -> None:
    """See that two directories hold the same files.

    Raises:
        Different: They don't.
    """
    # Directory by directory: what this process holds is the floor of the memory that tools show.
    for parent, _, files in os.walk(expected):
        other = found / Path(parent).relative_to(expected)
        names = set(os.listdir(parent))  # noqa: PTH208
        theirs = set(os.listdir(other)) if other.is_dir() else set()  # noqa: PTH208
        if names != theirs:
            raise Different(f"missing or too many: {sorted(names ^ theirs)[:10]} in {other}")
        for name in files:
            if not filecmp.cmp(Path(parent, name), other / name, shallow=False):
                raise Different(f"not the same contents: {other / name}")


def check_piece(expected: Path, at: int, found: Path) -> None:
    """See that a file holds what another one has from an offset on.

    Raises:
        Different: It doesn't.
    """
    piece = found.read_bytes()
    with expected.open("rb") as stream:
        stream.seek(at)
        if not piece or stream.read(len(piece)) != piece:
            raise Different(f"not the same contents: {found}")
