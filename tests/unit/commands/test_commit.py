"""Local work: commit, status, unstage, rm, show, ls, cat; and what goes wrong on a disk."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from disks import file, on_a_small_disk, plant
from machines import files

from dorky import errors
from dorky.cli import hints
from dorky.format.model import Kind, ObjectId
from dorky.repo import Repository
from dorky.results import Change, Status
from dorky.store import history
from dorky.store.index import Index, Row
from dorky.worktree import staging


def write(**contents: str) -> None:
    for name, content in contents.items():
        Path(name).write_text(content)


def commit(repo: Repository, message: str = "work", **contents: str) -> str:
    write(**contents)
    repo.stage(["."])
    return repo.commit(message).id


def unstaged(repo: Repository) -> dict[str, str]:
    return {each.path: each.what for each in repo.status().unstaged}


def staged(repo: Repository) -> dict[str, str]:
    return {each.path: each.what for each in repo.status().staged}


# --- commit ---------------------------------------------------------------------------------


@pytest.fixture
def frugal(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A project of several directories, of which nobody reads every row any more."""
    for name in ("a", "d/one", "d/two", "d/sub/three", "e/four"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    repo.stage(["."])
    repo.commit("first")
    refuse_all_rows(monkeypatch)
    return repo


@pytest.mark.parametrize(
    "change",
    [
        {"d/one": "other"},
        {"new": "1", "d/sub/new": "2"},
        {"d/sub/three": None},
        {"e/four": None, "e/five": "5"},
        {"a": None, "d/one": None, "d/two": "2", "f/g/h": "deep"},
        {"d/one": None, "d/one/below": "a directory in place of a file"},
    ],
)
def test_only_what_has_changed_is_read_and_written(
    frugal: Repository, change: dict[str, str | None]
) -> None:
    for name, text in change.items():
        if text is None:
            Path(name).unlink()
        else:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text)
    if there := [name for name in change if Path(name).is_file()]:
        frugal.stage(there)
    if gone := [name for name in change if not Path(name).exists()]:
        frugal.stage(gone)
    made = frugal.commit("second").id
    rows = frugal.index.around(["a", "d", "e", "f", "new"])
    assert set(rows) == {path for path in files(Path()) if not path.startswith(".dorky")}
    with frugal.store.writer() as writer:
        whole = staging.write_trees(rows.values(), writer, frugal.vault)
    assert history.read_commit(frugal.store, ObjectId(made)).trees == whole


def refuse_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Index.rows

    def some(index: Index, paths: Iterable[str] | None = None) -> dict[str, Row]:
        assert paths is not None, "every row is in memory at once"
        return rows(index, paths)

    monkeypatch.setattr(Index, "rows", some)


def test_a_first_commit_takes_row_by_row(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("a", "a-b", "a0", "d-e", "d/one", "d/sub/three", "d0", "é/z")
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    repo.stage(["."])
    with monkeypatch.context() as patch:
        refuse_all_rows(patch)
        made = repo.commit("first")
    assert made.changes == tuple(Change(name, "added") for name in sorted(names))
    assert {entry.path for entry in repo.ls()} == set(names)
    with repo.store.writer() as writer:
        whole = staging.write_trees(repo.index.rows().values(), writer, repo.vault)
    assert history.read_commit(repo.store, ObjectId(made.id)).trees == whole


def test_more_changes_than_are_noted(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A media type stays noted, files are added and deleted, and nothing else changes."""
    for name in ("a", "b/c", "b-c", "b/d/e", "z"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    repo.stage(["."])
    repo.commit("first")
    Path("b/c").write_text("other")
    Path("b/f").write_text("new")
    for name in ("b/d/e", "z"):
        Path(name).unlink()
    repo.stage(["."])
    noted = tuple(repo.status().staged)
    repo.index.set_commit(None)
    assert repo.index.since is None
    with monkeypatch.context() as patch:
        refuse_all_rows(patch)
        assert tuple(staging.staged(repo.store, repo.index)) == noted
        made = repo.commit("second")
    assert made.changes == noted == (
        Change("b/c", "modified"),
        Change("b/d/e", "deleted"),
        Change("b/f", "added"),
        Change("z", "deleted"),
    )  # fmt: skip
    assert {entry.path for entry in repo.ls()} == {"a", "b-c", "b/c", "b/f"}
    repo.index.set_commit(None)
    with pytest.raises(errors.NothingStaged):
        repo.commit("nothing")


def test_a_directory_is_emptied(frugal: Repository) -> None:
    for name in ("d/one", "d/two", "d/sub/three"):
        Path(name).unlink()
    frugal.stage(["d"])
    frugal.commit("without d")
    assert [entry.path for entry in frugal.ls()] == ["a", "e/four"]


def test_a_commit_says_who_when_why_and_what(repo: Repository) -> None:
    repo.config.set("user.name", "Ana Example", scope="user")
    before = datetime.now(timezone.utc).replace(microsecond=0)
    commit(repo, "first", a="1", b="1")
    write(a="2", c="1")
    Path("b").unlink()
    repo.stage(["."])
    made = repo.commit("  why\n\nand more, for whoever asks\n\n")
    assert made.message == "why\n\nand more, for whoever asks"
    assert made.author == "Ana Example"
    assert made.git == ""
    assert before <= made.time <= datetime.now(timezone.utc) + timedelta(seconds=1)
    assert made.time.tzinfo is not None
    assert made.changes == (Change("a", "modified"), Change("b", "deleted"), Change("c", "added"))
    assert made.refs == ("main",)
    assert repo.show() == made
    assert repo.show(made.parents[0]).parents == ()
    assert repo.status().clean


@pytest.mark.parametrize("message", ["", " ", "\n\t\n"])
def test_an_empty_message_is_refused(repo: Repository, message: str) -> None:
    write(a="1")
    repo.stage(["a"])
    with pytest.raises(errors.EmptyMessage):
        repo.commit(message)
    assert staged(repo) == {"a": "added"}


@pytest.mark.parametrize("message", ["caf\udce9", "x" * 100_000])
def test_a_message_that_can_not_be_kept(repo: Repository, message: str) -> None:
    write(a="1")
    repo.stage(["a"])
    with pytest.raises(errors.UsageError, match="the commit message"):
        repo.commit(message)
    assert staged(repo) == {"a": "added"}


def test_an_author_in_another_encoding_can_commit(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", os.fsdecode(b"Andr\xe9"))
    commit(repo, a="1")
    assert repo.show().author == "Andr\ufffd"


def test_nothing_staged_is_nothing_to_commit(repo: Repository) -> None:
    with pytest.raises(errors.NothingToDo, match="Nothing is staged"):
        repo.commit("first")
    commit(repo, a="1")
    write(a="2")
    with pytest.raises(errors.NothingToDo):
        repo.commit("second")
    write(a="1")
    with pytest.raises(errors.NothingToDo):
        repo.commit("third", all=True)


def test_all_takes_what_is_tracked_and_nothing_else(repo: Repository) -> None:
    commit(repo, changed="1", gone="1", same="1", swapped="1", linked="1")
    write(changed="2", new="1")
    Path("gone").unlink()
    Path("swapped").unlink()
    Path("swapped").mkdir()
    Path("linked").unlink()
    Path("linked").symlink_to("same")
    made = repo.commit("all", all=True)
    assert {each.path: each.what for each in made.changes} == {
        **{"changed": "modified", "gone": "deleted"},
        **{"swapped": "deleted", "linked": "modified"},
    }
    assert "new" not in {each.path for each in repo.ls()}


def test_commits_of_the_same_second_keep_their_order(repo: Repository) -> None:
    made = [commit(repo, f"{n}", a=f"{n}") for n in range(6)]
    assert [entry.id for entry in repo.log()] == made[::-1]


# --- status ---------------------------------------------------------------------------------


def test_status_of_a_new_project(repo: Repository) -> None:
    assert repo.status() == Status(
        **{"branch": "main", "head": None, "detached": False, "remote": "", "fetched": False},
        **{"ahead": 0, "behind": 0, "staged": (), "unstaged": (), "absent": 0, "secrets": ()},
    )


def test_status_tells_staged_from_unstaged(repo: Repository) -> None:
    commit(repo, a="1", b="1", c="1", d="1")
    write(a="staged", b="staged", new="1")
    repo.stage(["a", "b", "new"])
    write(b="staged and edited", c="edited")
    Path("d").unlink()
    assert staged(repo) == {"a": "modified", "b": "modified", "new": "added"}
    assert unstaged(repo) == {"b": "modified", "c": "modified", "d": "deleted"}
    write(a="1")
    assert staged(repo)["a"] == "modified"
    assert unstaged(repo)["a"] == "modified"
    assert not repo.status().clean


def test_status_writes_nothing_that_another_command_waits_for(repo: Repository) -> None:
    commit(repo, a="1")
    write(a="2")
    with repo.locked(), Repository(repo.root) as other:
        assert unstaged(other) == {"a": "modified"}
        assert other.show().message == "work"


# --- unstage and rm -------------------------------------------------------------------------


def test_unstage_puts_the_index_back(repo: Repository) -> None:
    commit(repo, changed="1", gone="1", other="1")
    write(changed="2", new="1", other="2")
    Path("gone").unlink()
    repo.stage(["."])
    done = repo.unstage(["changed", "gone", "new"])
    assert [each.path for each in done.changes] == ["changed", "gone", "new"]
    assert staged(repo) == {"other": "modified"}
    assert unstaged(repo) == {"changed": "modified"}
    assert repo.status().absent == 1  # gone; nobody stages its deletion by accident
    assert Path("changed").read_text() == "2"
    assert Path("new").exists()
    assert repo.unstage(["."]).changes == (Change("other", "modified"),)
    assert repo.unstage(["."]).changes == ()
    with pytest.raises(errors.PathNotTracked):
        repo.unstage(["nope"])


def test_unstage_before_the_first_commit(repo: Repository) -> None:
    write(a="1")
    repo.stage(["a"])
    repo.unstage(["a"])
    assert staged(repo) == {}
    assert Path("a").exists()


def test_rm_deletes_here_and_in_the_next_commit(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("d").mkdir()
    commit(repo, **{"a": "1", "d/x": "1", "d/y": "1", "p1": "1", "p2": "1", "keep": "1"})
    repo.rm(["a", "d", "p*"])
    assert files(repo.root).keys() == {"keep"}
    assert not Path("d").exists()
    assert staged(repo) == dict.fromkeys(["a", "d/x", "d/y", "p1", "p2"], "deleted")
    repo.commit("less")
    assert [each.path for each in repo.ls()] == ["keep"]
    with pytest.raises(errors.PathNotTracked):
        repo.rm(["a"])


def test_rm_of_the_last_file_in_the_current_directory(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("d").mkdir()
    commit(repo, **{"d/x": "1"})
    monkeypatch.chdir("d")
    repo.rm(["d/x"])
    assert Path.cwd().is_dir()
    assert repo.status().staged == (Change("d/x", "deleted"),)


@pytest.mark.parametrize("kept", ["edited", "staged", "new"])
def test_rm_refuses_what_is_kept_nowhere(repo: Repository, kept: str) -> None:
    commit(repo, edited="1", staged="1")
    write(edited="2", staged="2", new="1")
    repo.stage(["staged", "new"])
    with pytest.raises(errors.LocalChanges, match=kept):
        repo.rm([kept])
    assert Path(kept).exists()
    repo.rm([kept], cached=True)
    assert Path(kept).exists()
    assert kept not in unstaged(repo)
    repo.stage([kept])
    repo.rm([kept], force=True)
    assert not Path(kept).exists()


def test_rm_of_what_is_gone_or_a_directory_by_now(repo: Repository) -> None:
    commit(repo, gone="1", swapped="1")
    Path("gone").unlink()
    Path("swapped").unlink()
    Path("swapped").mkdir()
    Path("swapped/mine").write_text("mine")
    repo.rm(["gone", "swapped"])
    assert staged(repo) == {"gone": "deleted", "swapped": "deleted"}
    assert Path("swapped/mine").read_text() == "mine"


# --- show, ls, cat --------------------------------------------------------------------------


def test_ls_lists_a_revision_or_what_is_below_a_path(repo: Repository) -> None:
    plant(repo.root, {"a": file("1234", 0o755), "d/e/x": file("1"), "d/y": file("1")})
    repo.stage(["."])
    repo.commit("first")
    commit(repo, a="5")
    (listed,) = repo.ls("HEAD~1", "a")
    assert (listed.path, listed.mode, listed.size) == ("a", "100755", 4)
    assert [each.path for each in repo.ls()] == ["a", "d/e/x", "d/y"]
    assert [each.path for each in repo.ls("main", "d")] == ["d/e/x", "d/y"]
    assert [each.path for each in repo.ls("HEAD", "d/e/")] == ["d/e/x"]
    with pytest.raises(errors.PathNotTracked, match="nope is not tracked by dorky in main"):
        repo.ls("main", "d/../nope")


def test_cat_gives_the_bytes_of_any_revision(repo: Repository) -> None:
    large = os.urandom(3_000_000)
    plant(repo.root, {"large": file(large), "empty": file(), "d/l": (0o120000, b"../large")})
    repo.stage(["."])
    repo.commit("first")
    commit(repo, large="small now")
    assert b"".join(repo.cat("HEAD~1", "large")) == large
    assert b"".join(repo.cat("HEAD", "large")) == b"small now"
    assert b"".join(repo.cat("HEAD", "empty")) == b""
    assert b"".join(repo.cat("HEAD", "d/l")) == b"../large"
    for path in ("./large", "d/../large", repo.root / "large"):
        assert b"".join(repo.cat("HEAD", path)) == b"small now"
    for path in ("nope", "d/l/x", "large/x", "."):
        with pytest.raises(errors.PathNotTracked):
            repo.cat("HEAD", path)
    for path in ("/large", "../large", ""):
        with pytest.raises(errors.UsageError):
            repo.cat("HEAD", path)
    with pytest.raises(errors.UsageError, match="d is a directory"):
        repo.cat("HEAD", "d")


# --- what is wrong with the project or the machine ------------------------------------------


def test_outside_of_any_project(tmp_path: Path) -> None:
    with pytest.raises(errors.NotARepository):
        Repository.find(tmp_path)


def test_the_users_own_directory_is_no_project(hermetic: Path, repo: Repository) -> None:
    """~/.dorky holds the identity."""
    assert (hermetic / ".dorky" / "identity").exists()
    with pytest.raises(errors.NotARepository):
        Repository.find(hermetic)


def test_a_project_that_was_never_set_up_here(tmp_path: Path, repo: Repository) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / ".dorkyrc").write_bytes(Path(".dorkyrc").read_bytes())
    with Repository.find(other) as found:
        for act in (found.status, found.log, lambda: found.stage([other]), found.push):
            with pytest.raises(errors.NotSetUp):
                list(act() or ())  # type: ignore[call-overload]
    assert not (other / ".dorky").exists()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("version = 3\n", errors.ConfigTooNew),
        ("version = 'one'\n", errors.BadConfig),
        ("this is no TOML", errors.BadConfig),
        ("version = 2\nno.such = 'x'\n", errors.BadConfig),
        ("identity = 'x'\n", errors.BadConfig),
    ],
)
def test_a_dorkyrc_that_can_not_be_used(
    repo: Repository, text: str, kind: type[errors.DorkyError]
) -> None:
    commit(repo, a="1")
    Path(".dorkyrc").write_text(text)
    with Repository(repo.root) as again:
        write(a="2")
        with pytest.raises(kind):
            again.stage(["a"])


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (Path.unlink, errors.IdentityLost),
        (lambda path: path.chmod(0o644), errors.IdentityExposed),
        (lambda path: path.write_text("nothing of the sort"), errors.IdentityMalformed),
        (lambda path: path.write_text(OTHER), errors.NoKey),
    ],
    ids=["missing", "exposed", "malformed", "another's"],
)
def test_an_identity_that_does_not_open(
    repo: Repository, hermetic: Path, act: object, kind: type[errors.DorkyError]
) -> None:
    commit(repo, a="1")
    assert callable(act)
    act(hermetic / ".dorky" / "identity")
    write(a="2")
    with Repository(repo.root) as again:
        with pytest.raises(kind) as caught:
            again.stage(["a"])
        assert caught.value.exit_code == 6
        assert hints.hint(caught.value)
    repo.restore(["a"])
    time.sleep(0.05)
    assert repo.status().clean
    with Repository(repo.root) as again:
        assert again.status().clean  # what is known to be clean is not opened


OTHER = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n"


def test_objects_that_are_gone_or_damaged(repo: Repository) -> None:
    commit(repo, a="1")
    packs = {pack: pack.read_bytes() for pack in (repo.state / "packs").iterdir()}
    Path("a").unlink()

    def break_with(change: Callable[[bytes], bytes | None]) -> None:
        for pack, whole in packs.items():
            broken = change(whole)
            pack.unlink(missing_ok=True)
            if broken is not None:
                pack.write_bytes(broken)

    for change in (
        lambda _: None,
        lambda _: b"",
        lambda whole: whole[:30],
        lambda whole: bytes(byte ^ 1 for byte in whole),
    ):
        break_with(change)
        with Repository(repo.root) as again:
            for act in (lambda r: r.restore(["a"]), lambda r: r.show(), lambda r: r.ls()):
                with pytest.raises(errors.IntegrityError):
                    act(again)
        assert not Path("a").exists()
    break_with(lambda whole: whole)
    with Repository(repo.root) as again:
        again.restore(["a"])
    assert Path("a").read_text() == "1"


@pytest.mark.parametrize("claimed", [3, 1 << 22, (1 << 22) + 1, 0xFFFFFFFF])
def test_an_object_that_is_longer_than_it_says(tmp_path: Path, claimed: int) -> None:
    """Zeros that unfold to gigabytes; sealed repositories say no even earlier."""
    import cramjam

    bomb = struct.pack(">BI", 1, claimed) + bytes(cramjam.zstd.compress(bytes(1 << 26)))
    made, _ = Repository.init(tmp_path / "project", plain=True)
    with made:
        with made.store.writer() as writer:
            body = msgspec.json.encode({"entries": []})
            name = writer.add(Kind.COMMIT, body)
            writer.save()
        with made.store.writer() as writer:
            made.database.connection.execute("DELETE FROM objects")
            writer.append(Kind.COMMIT, name, bomb)
            writer.save()
        with pytest.raises(errors.CorruptObject):
            made.show(name)


# --- full disks -----------------------------------------------------------------------------

FULL = """
from machines import files
from dorky import errors
from dorky.repo import Repository

vault, phase = sys.argv[2:]
secret = os.urandom(300_000)


def state(repo):
    found = repo.status()
    return found.head, found.staged, files(repo.root)


repo, _ = Repository.init(disk / "project", vault)
os.chdir(repo.root)
Path("old").write_bytes(b"old" * 1000)
repo.stage(["."])
repo.commit("first")
repo.push()
Path("new").write_bytes(secret)
Path("old").write_bytes(b"edited" * 2000)
acts = {
    "stage": lambda repo: repo.stage(["."]),
    "commit": lambda repo: repo.commit("second"),
    "pull": lambda repo: repo.pull(),
    "checkout": lambda repo: repo.checkout("HEAD~1"),
    "restore": lambda repo: repo.restore(["."]),
}
if phase != "stage":
    repo.stage(["."])
if phase in ("checkout", "restore"):
    repo.commit("second")
    if phase == "checkout":
        repo.checkout("HEAD~1")
        acts["checkout"] = lambda repo: repo.checkout("main")
    else:
        Path("new").write_bytes(b"broken")
if phase == "pull":
    repo.commit("second")
    repo.push()
    repo.close()
    repo, _ = Repository.clone(vault, disk / "clone")
    os.chdir(repo.root)
    Path("old").write_bytes(b"old" * 1000)
    repo.stage(["."]), repo.commit("third"), repo.push(), repo.close()
    repo = Repository(disk / "project")
    os.chdir(repo.root)
    with Repository(disk / "clone") as clone:
        os.chdir(clone.root)
        Path("old").write_bytes(os.urandom(200_000))
        clone.stage(["."]), clone.commit("fourth"), clone.push()
        expected = files(clone.root)
    os.chdir(repo.root)
repo.close()
refused = 0
for free in (*range(0, 120_000, 8192), *range(120_000, 1_200_000, 65_536)):
    leave(free)
    with Repository(disk / "project") as repo:
        try:
            before = state(repo)
        except errors.Unavailable:
            refused += 1
            continue
        try:
            acts[phase](repo)
            break
        except errors.DorkyError as error:
            assert error.exit_code == 8, repr(error)
            refused += 1
    ballast.unlink()
    with Repository(disk / "project") as repo:
        after = state(repo)
        assert after[:2] == before[:2], (free, before[:2], after[:2])
        if phase in ("stage", "commit"):
            assert after[2] == before[2], free
        packs = (repo.state / "packs").iterdir()
        assert not [each for each in packs if each.name.startswith(".")]
else:
    raise AssertionError("never enough")
ballast.unlink()
assert refused, "the disk was never full"
with Repository(disk / "project") as repo:
    if phase == "stage":
        repo.commit("second")
    if phase == "pull":
        assert files(repo.root) == expected
    elif phase != "stage":
        assert Path("new").read_bytes() == secret
    assert b"".join(repo.cat("HEAD", "new")) == secret
    assert not repo.status().staged and not repo.status().unstaged
"""


@pytest.mark.parametrize("phase", ["stage", "commit", "pull", "checkout", "restore"])
def test_a_full_disk_loses_nothing(tmp_path: Path, phase: str) -> None:
    """With less and more bytes free, until it works; every failure leaves what was there."""
    disk = tmp_path / "disk"
    disk.mkdir()
    on_a_small_disk(disk, FULL, tmp_path / "vault", phase)
