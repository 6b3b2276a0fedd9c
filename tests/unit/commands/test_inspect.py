"""Diffs: what is compared with what, in which files, and what is fetched for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from machines import Machine, known, noise
from servers import Remote
from teams import admit, cloned

from dorky import errors
from dorky.merge.diff import LIMIT
from dorky.repo import Repository
from dorky.results import Diff, FileDiff
from dorky.store.contents import chunks_of
from dorky.worktree import checkout


def write(**contents: str) -> None:
    for name, content in contents.items():
        Path(name).write_text(content)


def texts(found: Diff) -> dict[str, str]:
    """The lines that came and went, by path."""
    return {
        each.path: " ".join(line for line in each.text.splitlines() if line[0] in "+-")
        for each in found.files
    }


def only(found: Diff) -> FileDiff:
    (each,) = found.files
    return each


@pytest.fixture
def three(repo: Repository) -> Repository:
    """``a`` and ``b`` at two commits, then staged, then on disk: 1, 2, 3, 4."""
    for content in "12":
        write(a=content, b=content)
        repo.stage(["."])
        repo.commit(content)
    write(a="3", b="3")
    repo.stage(["."])
    write(a="4", b="4")
    return repo


def test_what_is_compared_with_what(three: Repository) -> None:
    def found(*revisions: str, staged: bool = False) -> str:
        shown = texts(three.diff(revisions, ["a"], staged=staged))
        assert not shown.keys() - {"a"}
        return shown.get("a", "")

    assert found() == "-3 +4"
    assert found(staged=True) == "-2 +3"
    assert found("HEAD~1", staged=True) == "-1 +3"
    assert found("HEAD") == "-2 +4"
    assert found("HEAD~1") == "-1 +4"
    assert found("HEAD~1", "HEAD") == found("HEAD~1..HEAD") == found("HEAD~1..") == "-1 +2"
    assert found("HEAD", "HEAD~1") == found("..HEAD~1") == "-2 +1"
    assert found("HEAD", "HEAD") == ""
    write(a="3")
    assert found() == ""
    for words in (["a", "b", "c"], ["HEAD", "HEAD", "HEAD"], ["HEAD..HEAD", "HEAD"]):
        with pytest.raises((errors.UsageError, errors.UnknownRevision)):
            three.diff(words)
    with pytest.raises(errors.UsageError, match="two sides"):
        three.diff(["HEAD", "HEAD~1"], staged=True)
    with pytest.raises(errors.UsageError, match="three dots"):
        three.diff(["HEAD...HEAD~1"])


def test_only_the_files_that_are_meant(three: Repository) -> None:
    assert texts(three.diff()).keys() == {"a", "b"}
    assert texts(three.diff(paths="b")).keys() == {"b"}
    assert texts(three.diff(paths=["[b-z]"])).keys() == {"b"}
    assert texts(three.diff(paths=["below/../a"])).keys() == {"a"}
    with pytest.raises(errors.PathNotTracked):
        three.diff(paths=["below/a"])
    # One side suffices, and what is not tracked is none.
    three.rm(["b"], cached=True)
    assert texts(three.diff(["HEAD"], ["b"])) == {"b": "-2"}
    assert texts(three.diff(["HEAD~1", "HEAD"], ["b"])) == {"b": "-1 +2"}
    with pytest.raises(errors.PathNotTracked):
        three.diff(paths=["b"])


def test_files_come_and_go(repo: Repository) -> None:
    assert repo.diff() == repo.diff(staged=True) == Diff()
    with pytest.raises(errors.NoCommits):
        repo.diff(["HEAD"])
    write(a="1\n", b="1\n")
    repo.stage(["."])
    assert [(each.path, each.what) for each in repo.diff(staged=True).files] == [
        ("a", "added"),
        ("b", "added"),
    ]
    repo.commit("first")
    Path("a").unlink()
    Path("b").unlink()
    Path("b").mkdir()
    assert [(each.path, each.what) for each in repo.diff().files] == [
        ("a", "deleted"),
        ("b", "deleted"),
    ]


def test_links_modes_and_what_is_too_large(repo: Repository) -> None:
    write(file="1\n", script="true\n")
    Path("link").symlink_to("file")
    with Path("large").open("wb") as large:
        large.truncate(LIMIT + 1)
    repo.stage(["."])
    repo.commit("first")
    assert repo.diff() == Diff()
    Path("link").unlink()
    Path("link").symlink_to("script")
    Path("script").chmod(0o750)
    with Path("large").open("r+b") as large:
        large.write(b"text")
    link, large_one, script = sorted(repo.diff().files, key=lambda each: each.kind != "text")
    assert link.text == (
        "@@ -1 +1 @@\n-file\n\\ No newline at end of file\n+script\n\\ No newline at end of file\n"
    )
    assert (large_one.kind, large_one.old_size, large_one.new_size) == ("binary",) + (
        LIMIT + 1,
    ) * 2
    assert (script.kind, script.new_mode) == ("mode", "100750")


def test_no_plain_hash_is_shown(repo: Repository) -> None:
    for content in (b"\0001234", b"\0005678", b"\0001234"):
        Path("pin").write_bytes(content)
        repo.stage(["."])
        repo.commit("work")
    first, second = (only(repo.diff(words)) for words in (["HEAD~2", "HEAD~1"], ["HEAD~1", "HEAD"]))
    assert (first.old_id, first.new_id) == (second.new_id, second.old_id)
    assert len(first.old_id) == 10
    plain = hashlib.sha256(b"\0001234")
    for body in (b"\0001234", plain.digest(), plain.hexdigest().encode()):
        for kind in (b"", b"chunk\0"):
            assert not hashlib.sha256(kind + body).hexdigest().startswith(first.old_id)


def test_a_diff_changes_nothing(three: Repository) -> None:
    before = known(three)
    three.diff()
    three.diff(staged=True)
    three.diff(["HEAD~1", "HEAD"])
    assert known(three) == before


def test_what_is_not_here_is_fetched(tmp_path: Path, file_url: Remote) -> None:
    ana = Machine(tmp_path / "ana", {})
    ana("init", file_url.url)
    for word in ("one", "two"):
        lines = [
            f"{word} {hashlib.sha256(f'{word}{i}'.encode()).hexdigest()}\n" for i in range(9000)
        ]
        ana.commit({"large": "".join(lines)}, word)
        ana("push")
    ben = ana.another("ben")
    ben.write(".dorkyrc", ana.read(".dorkyrc"))
    ben("pull")
    with ben.repo() as repo:
        (old,) = repo.ls("HEAD~1")
        pieces = list(chunks_of(repo.store, old.content))
        assert repo.store.missing(pieces) == set(pieces)
        assert only(repo.diff(["HEAD~1"])).added == 9000
        assert not repo.store.missing(pieces)


@pytest.fixture
def team(tmp_path: Path, file_url: Remote) -> tuple[Machine, Machine]:
    """Two members; only the first is in the group that has ``env/prod/**``."""
    ana = Machine(tmp_path / "ana", {})
    ana("init", file_url.url, "--name", "ana")
    ana.commit({".env": "A=1\n", "env/prod/api.env": "P=1\n"}, "first")
    ana("push")
    ben = cloned(ana, "ben")
    admit(ana, ben, "ben")
    ana("group", "add", "prod", "env/prod/**")
    ana.commit({".env": "A=2\n", "env/prod/api.env": "P=2\n"}, "second")
    ana("push")
    ben("pull")
    return ana, ben


def test_closed_files_are_left_out_with_a_remark(team: tuple[Machine, Machine]) -> None:
    ana, ben = team
    said = ben("diff", "HEAD~1", "HEAD")
    assert said.out == "M .env  +1 -1 keys\n  ~ A = ******** → ********\n"
    assert "Files of the group prod differ, too, and are closed to you\n" in said.err
    assert ben("diff", "HEAD~1", "--json").json["closed"] == ["prod"]
    assert ben("diff", "--exit-code") == (0, b"", "")
    assert ben("diff", "--staged", "--exit-code") == (0, b"", "")
    assert "env/prod/api.env" in ana("diff", "HEAD~1", "HEAD").out
    # Another key for the same content makes no difference.
    assert ana("diff", "HEAD~2", "HEAD~1").out == ""


def test_a_large_file_comes_piece_by_piece(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beginning is there before the rest is fetched, and whatever has come stays."""
    monkeypatch.setattr(checkout, "_FIRST", 1)
    ana = Machine(tmp_path / "ana", remote.env)
    ana("init", remote.url)
    large = noise(6 << 20)
    ana.commit({"large": large, ".env": "A=1\n"})
    ana("push")
    ben = cloned(ana, "ben")
    admit(ana, ben, "ben")
    ben("pull", ".env")
    with ben.repo() as repo:
        (entry,) = (each for each in repo.ls("HEAD") if each.path == "large")
        chunks = set(chunks_of(repo.store, entry.content))
        assert len(chunks) > 3
        assert repo.store.missing(chunks) == chunks
        blocks = repo.cat("HEAD", "large")
        first = next(blocks)
        assert large.startswith(first)
        assert repo.store.missing(chunks)
        assert first + b"".join(blocks) == large
        assert not repo.store.missing(chunks)
