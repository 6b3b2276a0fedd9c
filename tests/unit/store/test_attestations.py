"""The history of attestations: where each lies, and how two of them are joined."""

from __future__ import annotations

from pathlib import Path

import pytest
import teams
from machines import Machine, root_of
from teams import Team

from dorky import errors
from dorky.format.model import ALL, Group, Roster
from dorky.project import ORIGIN
from dorky.repo import Repository
from dorky.store import attestations, history
from dorky.store.history import ATTEST

ID = "0" * 64


@pytest.mark.parametrize(
    ("path", "subject"),
    [
        (f"a/b/{ID}.sigstore.json", "a/b"),
        (f"{ID}.sigstore.json", ""),
        (f"a/{ID}.json", ""),
        (f"a/{ID[1:]}.sigstore.json", ""),
        (f"a/{ID}.sigstore.json/{ID}.sigstore.json", ""),
        (f"a/{ID}.sigstore.json\n", ""),
    ],
)
def test_its_name_says_what_an_attestation_is_about(path: str, subject: str) -> None:
    assert attestations.subject_of(path) == subject
    if subject:
        assert attestations.path_of(subject, ID) == path


def test_its_subject_says_whose_an_attestation_is() -> None:
    known = Roster((), (Group("1" * 16, "json", ("**/*.json", "secret.bin")),))
    owner = attestations.owner_in(ATTEST, known)
    assert owner(attestations.path_of("a/free.bin", ID)) == ALL
    assert owner(attestations.path_of("a/b.json", ID)) == "1" * 16
    assert owner(attestations.path_of("secret.bin", ID)) == "1" * 16
    assert attestations.owner_in("heads/main", known)(f"a/{ID}.sigstore.json") == "1" * 16


@pytest.fixture
def team(tmp_path: Path, file_url: object) -> Team:
    from servers import Remote

    assert isinstance(file_url, Remote)
    return teams.gather(tmp_path, file_url)


def ids(machine: Machine, path: str) -> set[str]:
    with machine.repo() as repo:
        heads = attestations.heads(repo.database, ORIGIN)
        return {*attestations.about(repo.store, heads, [path])[path]}


def groups(machine: Machine, path: str) -> set[str]:
    """The groups in whose trees the remote's history holds what is about a file."""
    with machine.repo() as repo:
        head = repo.database.ref(f"{ORIGIN}/{ATTEST}")
        found = attestations.about(repo.store, [head] if head else [], [path])[path]
        return {placed.group for placed in found.values()}


def linear(machine: Machine) -> int:
    """The number of commits of the remote's history, none of which is a merge."""
    with machine.repo() as repo:
        head = root_of(machine).refs[ATTEST]
        nodes = [*history.ancestors(repo.store, [head])]
        assert all(len(node.commit.parents) <= 1 for node in nodes)
        return len(nodes)


def test_a_push_puts_what_only_it_has_on_top(team: Team) -> None:
    ana, ben, _ = team
    ana("sign", ".env", "--push")
    ana("sign", "notes", "--push")
    ben("sign", ".env")
    ben("sign", "notes")
    ben("push")
    assert len(ids(ben, ".env")) == len(ids(ben, "notes")) == 2
    assert linear(ben) == 3
    assert ben("push").out.startswith("Up to date")
    ana("pull")
    assert ids(ana, ".env") == ids(ben, ".env")
    assert "same as origin\n" in ana("status").out + "\n"
    ana("sign", ".env")
    assert "lacks signatures (dorky push)" in ana("status").out


def test_what_a_group_closes_meanwhile_is_pushed_for_the_group(team: Team) -> None:
    ana, ben, cleo = team
    ana("sign", ".env")
    cleo("sign", ".env")
    ben("group", "add", "core", ".env", "--member", "ben", "--member", "ana")
    for machine in (ana, cleo):
        teams.follow(machine, ben)
        machine("pull")
    ana("push")
    own = ids(ana, ".env")
    assert len(own) == 1
    assert groups(ana, ".env").isdisjoint({ALL})
    # A member outside the group can no longer attest the file, and still works on.
    cleo("sign", "notes", "--push")
    ana("pull")
    assert ids(ana, ".env") == own
    assert len(ids(ana, "notes")) == 1
    ben("pull")
    ben("verify", ".env")


def test_what_was_pushed_moves_with_its_file(team: Team) -> None:
    ana, ben, cleo = team
    ana("sign", ".env", "env", "--push")
    ana("group", "add", "prod", "env/**", "--member", "ana", "--member", "ben")
    assert groups(ana, ".env") == {ALL}
    assert groups(ana, "env/prod/api.env").isdisjoint({ALL})
    for machine in (ben, cleo):
        teams.follow(machine, ana)
        machine("pull")
    ben("verify", "env", ".env")
    cleo("verify", ".env")
    ben("rotate", "--history")
    ana("group", "members", "prod", "--remove", "ben")
    teams.follow(ben, ana)
    ben("pull")
    assert ids(ben, "env/prod/api.env") == set()
    ben("sign", "notes", "--push")
    ana("pull")
    ana("verify", "notes")
    ana("gc", "--remote", "--grace", "0")
    ana("verify", "env")
    ana("fsck", "--remote", "--read-data")


def test_what_a_lost_key_has_signed_is_committed_again(team: Team) -> None:
    _, ben, _ = team
    ben("sign", ".env")
    with ben.repo() as repo:
        made = unsigned(repo)
        repo.database.set_ref(ATTEST, made)
    ben("push")
    assert root_of(ben).refs[ATTEST] != made
    ben("verify", ".env")


def unsigned(repo: Repository) -> str:
    """The history as somebody has committed it whom the team does not know."""
    import msgspec

    head = repo.database.ref(ATTEST)
    assert head
    commit = history.read_commit(repo.store, head)
    repo.store._signer = None
    with repo.store.writer() as writer:
        made = writer.add_commit(msgspec.structs.replace(commit, signer="", signature=b""))
        writer.save()
    return made


def test_no_worktree_holds_it(team: Team) -> None:
    ana = team.ana
    ana("sign", ".env", "--push")
    assert "attest" in ana("checkout", "attest", code=4).error
    assert "origin/attest" in ana("restore", ".", "--source", "origin/attest", code=4).error


def test_a_history_that_does_not_go_on_is_refused(team: Team) -> None:
    ana, ben, cleo = team
    ana("sign", ".env", "--push")
    cleo("fetch")
    with ben.repo() as repo, pytest.MonkeyPatch.context() as patched:
        repo.fetch()
        with repo.operation("plant"), repo.store.writer() as writer:
            made = attestations.commit(repo.store, writer, None, {}, author="ben")
            writer.save()
        patched.setattr("dorky.remote.push._heads", lambda *_: {"attest": made})
        patched.setattr("dorky.remote.push.lacks", lambda *_: True)
        repo.push()
    with cleo.repo() as repo, pytest.raises(errors.HistoryReplaced):
        repo.fetch()
    # Whoever follows it all the same still has what was there.
    cleo("pull", "--accept-rewind")
    cleo("verify", ".env")
    cleo("push")
    assert len(ids(cleo, ".env")) == 1
