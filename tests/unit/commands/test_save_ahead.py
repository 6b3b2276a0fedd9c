"""`dorky save` of large files: their packs are sent while the rest is still being read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import OFFLINE, RESET, Faults, failing
from machines import Machine, bucket, noise, packs_listed, started
from servers import Remote
from teams import admit, cloned, joined

from dorky import errors
from dorky.format.model import Kind, MiB
from dorky.remote import ahead as sending
from dorky.remote import push
from dorky.remote.journal import Journal, Sent
from dorky.store import contents, objects, pack
from dorky.worktree.worktree import Worktree

DENIED = errors.AccessDenied("the bucket", "403")
BIG = noise(20 * MiB, 11)
CHANGED = BIG[: 9 * MiB] + b"!" + BIG[9 * MiB + 1 :]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """The requests to the remote, with "chunk" and "add" among them.

    "chunk" stands for a chunk that is stored, "add" for a pack that is about to be sent.
    Packs have 2 MiB and a chunk, so that the file makes several.
    """
    found = Faults.installed(monkeypatch)
    append, add = objects.Writer.append, Journal.add

    def store(writer: objects.Writer, kind: Kind, *stored: Any) -> None:
        if kind is Kind.CHUNK:
            found.calls.append(("chunk", ""))
        append(writer, kind, *stored)

    def note(journal: Journal, sent: Sent) -> None:
        found.calls.append(("add", sent.pack.id))
        add(journal, sent)

    monkeypatch.setattr(objects.Writer, "append", store)
    monkeypatch.setattr(Journal, "add", note)
    monkeypatch.setattr(pack, "TARGET", 2 * MiB)
    for module in (push, sending):
        monkeypatch.setattr(module, "SMALL", MiB)
    monkeypatch.setattr("time.sleep", lambda _: None)
    return found


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote, faults: Faults) -> Machine:
    made = started(tmp_path / "ana", file_url, {".env": "A=1\n", "prod/a": "1"}, "--name", "ana")
    made.write("big", BIG)
    faults.clear()
    return made


def puts(faults: Faults) -> list[str]:
    return [key for verb, key in list(faults.calls) if verb == "put" and key.startswith("packs/")]


def ahead(faults: Faults) -> bool:
    """Whether a pack was sent before the last chunk of a large file was stored."""
    verbs = [verb for verb, _ in list(faults.calls)]
    assert "chunk" in verbs
    return "add" in verbs[: len(verbs) - verbs[::-1].index("chunk")]


def unlisted(machine: Machine, remote: Remote) -> set[str]:
    """The packs in the bucket that no root lists."""
    there = {key.removeprefix("packs/") for key in bucket(remote) if key.startswith("packs/")}
    return there - {packed.id for packed in packs_listed(machine)}


def held(machine: Machine, path: str) -> bool:
    with machine.repo() as repo:
        content = repo.index.rows([path])[path].content
        return not repo.store.missing(contents.chunks_of(repo.store, content))


def check(ana: Machine, remote: Remote, data: bytes = BIG) -> None:
    """All is in the remote, once, and another machine reads it."""
    assert unlisted(ana, remote) == set()
    assert "same as origin" in ana("status").out
    assert list((ana.state / "tmp").iterdir()) == []
    ana("fsck")
    with ana.repo() as repo:
        url = repo.config.url("origin")
    ben = ana.another(f"ben {len(list(ana.base.parent.iterdir()))}")
    ben("clone", url, ".")
    assert ben.read("big") == data
    ben("fsck", "--remote", "--read-data")


@pytest.mark.parametrize("words", [("big",), ()])
def test_packs_are_sent_while_the_file_is_read(
    ana: Machine, file_url: Remote, faults: Faults, words: tuple[str, ...]
) -> None:
    if not words:
        ana.write("big", b"1")
        ana("save", "big", "-m", "first")
        ana.write("big", BIG)
        faults.clear()
    ana("save", *words, "-m", "big")
    assert ahead(faults)
    assert len(puts(faults)) == len(packs_listed(ana))
    assert [verb for verb, _ in faults.calls if verb in {"list", "delete"}] == []
    assert not held(ana, "big")
    check(ana, file_url)


@pytest.mark.parametrize("options", ["--plain", "--single-writer"])
def test_the_first_save(tmp_path: Path, file_url: Remote, faults: Faults, options: str) -> None:
    ana = Machine(tmp_path / "ana", file_url.env)
    ana("init", file_url.url, *options.split())
    ana.write("big", BIG)
    ana("save", "big", "-m", "big")
    assert ahead(faults)
    assert held(ana, "big") == (options == "--single-writer")
    assert unlisted(ana, file_url) == set()
    ben = ana.another("ben")
    ben.write(".dorkyrc", ana.read(".dorkyrc"))
    ben("pull", *(["--plain"] if options == "--plain" else []))
    assert ben.read("big") == BIG


def test_of_a_changed_file_only_the_change_is_sent(
    ana: Machine, file_url: Remote, faults: Faults
) -> None:
    """The local store does not hold what is unchanged, but the remote does."""
    ana("save", "big", "-m", "big")
    ana.write("big", CHANGED)
    before = sum(map(len, bucket(file_url).values()))
    ana("save", "-m", "changed")
    assert sum(map(len, bucket(file_url).values())) < before + 6 * MiB
    check(ana, file_url, CHANGED)


def test_a_reader_sends_nothing(ana: Machine, faults: Faults) -> None:
    ben = cloned(ana, "ben")
    admit(ana, ben, "ben", "reader")
    ben("pull")
    ben.write("big", BIG)
    faults.clear()
    ben("save", "big", "-m", "big", code=6)
    assert puts(faults) == []
    assert ("swap", "root") not in faults.calls
    assert held(ben, "big")


def test_the_network_fails(ana: Machine, file_url: Remote, faults: Faults) -> None:
    """A pack that has arrived is not sent again."""
    faults.before("put", lambda: None, key="packs/", times=1)
    faults.before("put", failing(OFFLINE), key="packs/", times=999)
    said = ana("save", "big", "-m", "big", code=8)
    assert "Committed, but not pushed" in said.err
    assert held(ana, "big")
    there = {key for key in bucket(file_url) if key.startswith("packs/")}
    assert len(there) == 1
    faults.clear()
    ana("save", "-m", "big")
    assert len(puts(faults)) == len(packs_listed(ana)) - 1
    assert there <= {f"packs/{packed.id}" for packed in packs_listed(ana)}
    check(ana, file_url)


@pytest.mark.parametrize("error", [DENIED, errors.CorruptRoot("the bucket", "it is garbage")])
def test_a_swap_that_won_may_be_told_as_an_error(
    ana: Machine, file_url: Remote, faults: Faults, error: errors.DorkyError
) -> None:
    """Its answer is lost, and reading the root fails. The root lists what was sent."""

    def lose(_: object) -> None:
        faults.before("get", failing(error), key="root")
        raise RESET

    faults.after("swap", lose, key="root")
    ana("save", "big", "-m", "big", code=error.exit_code)
    assert faults.done
    ana("push")
    check(ana, file_url)


def test_an_upload_that_fails_is_done_by_the_push(
    ana: Machine, file_url: Remote, faults: Faults
) -> None:
    faults.before("put", failing(OFFLINE), key="packs/", times=6)
    ana("save", "big", "-m", "big")
    assert faults.done
    check(ana, file_url)


def test_the_process_is_interrupted(ana: Machine, file_url: Remote, faults: Faults) -> None:
    def stop() -> None:
        if len(puts(faults)) > 2:
            raise KeyboardInterrupt

    faults.before("put", stop, key="packs/", times=99)
    ana("save", "big", "-m", "big", code=130)
    assert list((ana.state / "tmp").iterdir()) == []
    faults.clear()
    ana("save", "big", "-m", "big")
    check(ana, file_url)


def test_the_other_side_has_moved(ana: Machine, file_url: Remote, faults: Faults) -> None:
    ben = joined(ana, "ben")
    ben.write("d/b", "ben\n")
    ana("fetch")
    ben("save", "d/b", "-m", "ben's")
    faults.clear()
    found = ana("save", "big", "-m", "ana's", "--json").json
    assert found["synced"]["pulled"]
    assert ana.read("d/b") == b"ben\n"
    assert ahead(faults)
    check(ana, file_url)


def refused_deletions(ana: Machine, _: pytest.MonkeyPatch) -> int:
    for n in range(12):
        ana.write(f"many/{n}", f"{n}")
    ana("save", "many", "-m", "many")
    for n in range(12):
        (ana.project / f"many/{n}").unlink()
    ana("stage", "many")
    return 5


def refused_reading(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> int:
    """The last of the files can't be read."""
    ana.write("zero", BIG)
    opened = Worktree.open

    def refuse(worktree: Worktree, path: str) -> int:
        if path == "zero":
            raise errors.UnreadableFile(path, "it is locked")
        return opened(worktree, path)

    monkeypatch.setattr(Worktree, "open", refuse)
    return 6


@pytest.mark.parametrize("refused", [refused_deletions, refused_reading])
def test_what_is_refused_leaves_nothing_in_the_remote(
    ana: Machine,
    file_url: Remote,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[[Machine, pytest.MonkeyPatch], int],
) -> None:
    with monkeypatch.context() as patched:
        code = refused(ana, patched)
        names = ["big", "zero"] if code == 6 else ["big"]
        faults.clear()
        ana("save", *names, "-m", "x", code=code)
    assert len(puts(faults)) >= 3
    assert unlisted(ana, file_url) == set()
    ana("save", "big", "-m", "x", "--allow-deletions")
    check(ana, file_url)


def test_the_disk_is_full(
    ana: Machine, file_url: Remote, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = pack.PackWriter.finish
    count = 0

    def full(writer: pack.PackWriter) -> object:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return finish(writer)

    with monkeypatch.context() as patched:
        patched.setattr(pack.PackWriter, "finish", full)
        assert "No space left" in ana("save", "big", "-m", "big", code=8).error
    assert len(puts(faults)) == 2
    assert unlisted(ana, file_url) == set()
    assert list((ana.state / "tmp").iterdir()) == []
    assert "big" not in ana("ls").out
    ana("save", "big", "-m", "big")
    check(ana, file_url)


def test_a_group_was_started_meanwhile(ana: Machine, file_url: Remote, faults: Faults) -> None:
    """Packs that were sent for everybody are deleted, because the file is the group's now."""
    ben = joined(ana, "ben")
    ana("pull")
    ben("group", "add", "heavy", "heavy/**")
    ana.write("heavy/big", BIG)
    faults.clear()
    assert ana("save", "heavy/big", "-m", "x", code=5).error
    assert ahead(faults)
    assert unlisted(ana, file_url) == set()


def test_nothing_that_a_group_has_closed_is_sent(
    ana: Machine, file_url: Remote, faults: Faults
) -> None:
    """Its copy for everybody is refused once it is read, and never sent."""
    ana("group", "add", "prod", "prod/**")
    ana.write("prod/big", BIG)
    ana("save", "prod/big", "-m", "closed")
    faults.clear()
    assert ana("save", "big", "-m", "open", code=5).error
    assert puts(faults) == []
    assert held(ana, "prod/big") is False
    ana("save", "big", "-m", "open", "--for", "all")
    assert ahead(faults)
    assert unlisted(ana, file_url) == set()
