"""Two clones of one repository, used as a library."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import snapshots
from disks import Tree, plant
from machines import files

from dorky.repo import Repository
from dorky.results import PullResult


class Pair(NamedTuple):
    """Two clones of one repository. Ana pushes first, Ben pulls."""

    ana: Repository
    ben: Repository

    def start(self, tree: Tree) -> None:
        """Give both the same state."""
        self.commit(self.ana, tree)
        self.ana.push()
        self.ben.pull()
        assert files(self.ben.root) == dict(tree)

    def commit(self, repo: Repository, tree: Tree) -> None:
        plant(repo.root, tree)
        os.chdir(repo.root)
        repo.stage(["."])
        if repo.status().staged:
            repo.commit("work")

    def meet(self, theirs: Tree, ours: Tree) -> PullResult:
        """Ana commits and pushes ``theirs``, Ben commits ``ours`` and pulls."""
        self.commit(self.ana, theirs)
        self.ana.push()
        self.commit(self.ben, ours)
        return self.ben.pull()


@contextlib.contextmanager
def two_clones(directory: Path) -> Iterator[Pair]:
    vault, home = directory / "vault", Path.home()

    def make() -> None:
        ana, _ = Repository.init(directory / "ana", str(vault))
        ben, _ = Repository.clone(str(vault), directory / "ben")
        ana.close()
        ben.close()

    if any(home.iterdir()):  # a test's own identity
        make()
    else:
        snapshots.once([directory / "ana", directory / "ben", vault, home], make, "two clones")
    with Repository(directory / "ana") as ana, Repository(directory / "ben") as ben:
        yield Pair(ana, ben)
