"""The library takes repository paths, or absolute ones: the current directory never matters."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import snapshots
from servers import Remote

from dorky import Repository, errors
from dorky.documents.export import Form

PATH = "config/.env"


@pytest.fixture
def repo(tmp_path: Path, file_url: Remote) -> Iterator[Repository]:
    """A pushed project with two commits; the current directory is elsewhere, with a decoy."""
    root = tmp_path / "project"
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "config").mkdir(parents=True)
    (elsewhere / PATH).write_text("DECOY=1\n")
    before = Path.cwd()
    os.chdir(elsewhere)

    def make() -> None:
        with Repository.init(root, file_url.url)[0] as made:
            (root / "config").mkdir()
            for value in "12":
                (root / PATH).write_text(f"KEY={value}\n")
                (root / "other.txt").write_text(value)
                made.stage(root)
                made.commit(f"commit {value}")
            made.push()

    try:
        snapshots.once([root, Path(file_url.url), Path.home()], make, "two commits")
        with Repository(root) as made:
            yield made
            # Nothing was written, or deleted, where the process happens to be.
            left = [path for path in elsewhere.rglob("*") if path.is_file()]
            assert left == [elsewhere / PATH]
            assert left[0].read_text() == "DECOY=1\n"
    finally:
        os.chdir(before)


def edited(repo: Repository) -> None:
    (repo.root / PATH).write_text("KEY=3\n")


def type_into(draft: Path) -> None:
    draft.write_text("KEY=4\n")


def group_added(repo: Repository, path: str | Path) -> object:
    return repo.group_add("ops", [os.fspath(path)]).group.patterns


def group_removed(repo: Repository, path: str | Path) -> object:
    if not repo.group_list():
        repo.group_add("ops", [PATH])
    return repo.group_remove("ops", [os.fspath(path)]).group.patterns


def downloaded(repo: Repository, path: str | Path) -> object:
    target = repo.root.parent / "downloaded"
    return repo.download("HEAD", path, target, force=True).read_text()


def resolved(repo: Repository, path: str | Path) -> object:
    with pytest.raises(errors.NothingToDo):
        repo.resolve(path)
    return "no merge"


def pulled(repo: Repository, path: str | Path) -> object:
    (repo.root / PATH).unlink()
    repo.restore(PATH)
    return [repo.pull(path).conflicts, (repo.root / PATH).exists()]


METHODS: dict[str, tuple[Callable[[Repository, str | Path], object], object]] = {
    "stage": (lambda repo, path: repo.stage(path).changes[0].path, PATH),
    "unstage": (lambda repo, path: (repo.stage(PATH), repo.unstage(path))[1].changes[0].path, PATH),
    "rm": (lambda repo, path: repo.rm(path, force=True).changes[0].path, PATH),
    "restore": (lambda repo, path: repo.restore(path).changes[0].path, PATH),
    "log": (lambda repo, path: len(list(repo.log(path=path))), 2),
    "ls": (lambda repo, path: [found.path for found in repo.ls(path=path)], [PATH]),
    "cat": (lambda repo, path: b"".join(repo.cat("HEAD~1", path)), b"KEY=1\n"),
    "diff": (lambda repo, path: [found.path for found in repo.diff(paths=path).files], [PATH]),
    "pull": (pulled, [(), True]),
    "download": (downloaded, "KEY=2\n"),
    "read": (lambda repo, path: repo.read(path), b"KEY=3\n"),
    "read a revision": (lambda repo, path: repo.read(path, "HEAD~1"), b"KEY=1\n"),
    "get": (lambda repo, path: repo.get(path, "KEY"), "3"),
    "variables": (lambda repo, path: repo.variables(path), {"KEY": "3"}),
    "export": (
        lambda repo, path: repo.export(path, Form.JSON).split(),
        ["{", '"KEY":', '"3"', "}"],
    ),
    "environment": (lambda repo, path: repo.environment([path]), {"KEY": "3"}),
    "set": (lambda repo, path: repo.set(path, "NEW", "1").path, PATH),
    "check_settable": (lambda repo, path: repo.check_settable(path), None),
    "unset": (lambda repo, path: repo.unset(path, "KEY").path, PATH),
    "edit": (lambda repo, path: repo.edit(path, type_into).path, PATH),
    "resolve": (resolved, "no merge"),
    "team_list": (lambda repo, path: repo.team_list(path).path, PATH),
    "group_add": (group_added, (PATH,)),
    "group_remove": (group_removed, ()),
    "plan_purge": (lambda repo, path: repo.plan_purge(path).paths, (PATH,)),
}
CLEAN = {"pull", "group_add", "group_remove", "plan_purge"}


@pytest.mark.each_value
@pytest.mark.parametrize(
    "form", ["repository path", "unusual", "Path", "absolute", "absolute Path"]
)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_file(repo: Repository, method: str, form: str) -> None:
    call, expected = METHODS[method]
    if method not in CLEAN:
        edited(repo)
    path: str | Path = {
        "repository path": PATH,
        "unusual": "./config/../config//.env",
        "Path": Path(PATH),
        "absolute": str(repo.root / PATH),
        "absolute Path": repo.root / PATH,
    }[form]
    assert call(repo, path) == expected


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"resolve"}))
def test_no_method_leaves_the_project(repo: Repository, method: str) -> None:
    call, _ = METHODS[method]
    if method not in CLEAN:
        edited(repo)
    for path in ("../elsewhere/config/.env", str(Path(PATH).resolve()), Path(PATH).resolve()):
        with pytest.raises(errors.OutsideWorktree, match="is outside the project"):
            call(repo, path)
    with pytest.raises(errors.UnstorablePath):
        call(repo, ".git/config")


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"resolve", "team_list"}))
def test_an_empty_path_is_not_everything(repo: Repository, method: str) -> None:
    call, _ = METHODS[method]
    if method not in CLEAN:
        edited(repo)
    with pytest.raises(errors.UsageError, match="A path is empty"):
        call(repo, "")


def test_the_root_is_a_point(repo: Repository) -> None:
    edited(repo)
    for path in (".", repo.root, f"{repo.root}/", Path()):
        assert len(repo.ls(path=path)) == 2
        assert [found.path for found in repo.diff(paths=path).files] == [PATH]
        assert len(list(repo.log(path=path))) == 2
    assert [change.path for change in repo.stage(".").changes] == [PATH]


def test_links_that_lead_to_the_project_are_followed(repo: Repository, tmp_path: Path) -> None:
    edited(repo)
    link = tmp_path / "link"
    link.symlink_to(repo.root)
    assert repo.read(link / PATH) == b"KEY=3\n"
    assert [change.path for change in repo.stage(link / "config").changes] == [PATH]


def test_the_environment_comes_from_the_roots_file(repo: Repository) -> None:
    with pytest.raises(errors.PathNotFound):
        repo.environment()
    (repo.root / ".env").write_text("ROOT=1\n")
    os.chdir(repo.root / "config")
    assert repo.environment() == {"ROOT": "1"}
    os.chdir(repo.root.parent / "elsewhere")
