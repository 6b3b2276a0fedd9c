"""A project without a worktree reads a repository; what needs local files says that it has none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Remote

from dorky import Repository, errors
from dorky.commands import (
    checkout,
    commit,
    inspect,
    remote_files,
    setup,
    stage,
    status,
    sync,
    team,
    variables,
)
from dorky.commands.reading import Reader
from dorky.config import RC, Config
from dorky.project import Project

FILES = {"config/.env": "KEY=1\n", "readme": "text\n"}


@pytest.fixture
def url(tmp_path: Path, file_url: Remote) -> str:
    root = tmp_path / "project"
    with Repository.init(root, file_url.url)[0] as made:
        (root / "config").mkdir()
        for path, text in FILES.items():
            (root / path).write_text(text)
        made.stage(".")
        made.commit("first")
        made.push()
    return file_url.url


@pytest.fixture
def bare(url: str, tmp_path: Path) -> Iterator[Project]:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    config = Config(None, flags={"remotes.origin.url": url})
    with Project(None, config=config, state=state) as project:
        project.set_up()
        yield project


def test_it_reads_the_repository(bare: Project, tmp_path: Path) -> None:
    assert sync.refresh(bare).new
    head = "origin/main"
    assert [found.path for found in inspect.ls(bare, head)] == sorted(FILES)
    assert [found.path for found in inspect.ls(bare, head, "./config/")] == ["config/.env"]
    assert b"".join(inspect.cat(bare, head, "config/.env")) == b"KEY=1\n"
    assert variables.get_variable(Reader(bare, head), "config/.env", "KEY") == "1"
    assert [entry.message for entry in inspect.log(bare, head, "readme")] == ["first"]
    assert {member.name for member in team.members(bare).members}
    written = remote_files.download(bare, head, "readme", tmp_path / "copy", force=False)
    assert written.read_text() == "text\n"
    assert not list((tmp_path / "state").rglob(RC))


PATH = "config/.env"
NEEDS: dict[str, Callable[[Project], object]] = {
    "root": lambda project: project.root,
    "worktree": lambda project: project.worktree,
    "ignore": lambda project: project.ignore,
    "status": status.status,
    "diff": inspect.diff,
    "stage": lambda project: stage.stage(project, PATH),
    "restore": lambda project: stage.restore(project, PATH, source="origin/main"),
    "read": lambda project: Reader(project).read(PATH),
    "set": lambda project: variables.set_variable(project, PATH, "KEY", "2"),
    "edit": lambda project: variables.edit(project, PATH, lambda _: None),
    "pull": sync.pull,
    "checkout": lambda project: checkout.checkout(project, "origin/main"),
    "commit": lambda project: commit.commit(project, "message", all=True),
    "absolute": lambda project: inspect.cat(project, "origin/main", f"/{PATH}"),
    "outside": lambda project: inspect.cat(project, "origin/main", f"../{PATH}"),
}


@pytest.mark.parametrize("what", NEEDS)
def test_what_needs_a_worktree_says_so(bare: Project, what: str, url: str) -> None:
    sync.refresh(bare)
    before = bare.database.refs()
    with pytest.raises(errors.NoWorktree, match="without one") as caught:
        NEEDS[what](bare)
    assert url in caught.value.message
    assert caught.value.exit_code == 3
    assert bare.database.refs() == before


@pytest.mark.parametrize("plain", [False, True])
def test_a_download_leaves_nothing_but_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    scratch, elsewhere = tmp_path / "scratch", tmp_path / "elsewhere"
    scratch.mkdir()
    elsewhere.mkdir()
    root = tmp_path / "project"
    with Repository.init(root, str(tmp_path / "vault"), plain=plain)[0] as made:
        (root / "file").write_text("content")
        made.stage("file")
        made.commit("first")
        made.push()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.chdir(elsewhere)
    # A project around it does not matter, and neither does its `.dorkyrc`.
    (elsewhere / RC).write_text('version = 1\n[remotes.origin]\nurl = "/nowhere"\n')
    for url in (str(tmp_path / "vault"), "../vault", (tmp_path / "vault").as_uri()):
        done = setup.download_from(url, "main", "file", "copy", force=True, plain=plain)
        assert done.read_text() == "content"
        with pytest.raises(errors.PathNotTracked):
            setup.download_from(url, "main", "none", "other", plain=plain)
    assert {path.name for path in elsewhere.iterdir()} == {RC, "copy"}
    assert list(scratch.iterdir()) == []
