"""One project in many threads: what it opens is opened once, and reading is safe."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dorky import Repository
from dorky.keys import vault
from dorky.keys.vault import Vault
from dorky.project import Project

T = TypeVar("T")
THREADS = 32


def together(work: Callable[[], T]) -> list[T]:
    """Do something in many threads at once; return the results."""
    start = threading.Barrier(THREADS)

    def begin(_: int) -> T:
        start.wait(30)
        return work()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    with Repository.init(root)[0] as made:
        for n in range(20):
            (root / f"{n}.env").write_text(f"N={n}\n")
        made.stage(root)
        made.commit("begin")
    return root


def test_what_threads_need_is_opened_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    unlock = vault.unlock

    def slowly(*arguments: Any, **options: Any) -> Vault:
        opened.append(arguments)
        time.sleep(0.05)
        return unlock(*arguments, **options)

    monkeypatch.setattr(vault, "unlock", slowly)
    for name in ("database", "store", "keyring", "vault"):
        with Project(root) as project:
            found = together(lambda name=name: getattr(project, name))  # type: ignore[misc]
            assert {id(thing) for thing in found} == {id(getattr(project, name))}
    assert len(opened) == 1


def test_threads_read_and_write_the_same_project(root: Path) -> None:
    with Repository.find(root) as repo:

        def work() -> str:
            name = threading.current_thread().name
            files = [repo.read(root / f"{n}.env", "HEAD") for n in range(20)]
            assert files == [f"N={n}\n".encode() for n in range(20)]
            repo.set(root / "shared.env", name.replace("-", "_"), "x")
            assert repo.status().head
            return name.replace("-", "_")

        names = set(together(work))
        assert set(repo.variables(root / "shared.env")) == names
        repo.commit("all of them")
    with Repository.find(root) as repo:
        assert set(repo.variables(root / "shared.env", revision="HEAD")) == names
        assert len(list(repo.log())) == 2
