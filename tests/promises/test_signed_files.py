"""Rules for signatures: what is not signed as they demand is refused before a file is touched."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import teams
from machines import Machine, bucket, driver_of, files, noise, root_of
from roles import Forge
from servers import Remote
from teams import Team

from dorky import errors
from dorky.project import ORIGIN
from dorky.store import attestations

RULE = '\n[[signatures]]\npaths = ["*.env", ".env", "env/**"]\n'
OTHER = "it was signed for other content"


@pytest.fixture
def team(tmp_path: Path, file_url: Remote) -> Team:
    """Ana has signed all that a rule of Cleo's is about; everybody has pulled that."""
    team = teams.gather(tmp_path, file_url)
    team.ana("sign", ".env", "env", "--push")
    team.ben("pull")
    team.cleo("pull")
    rule(team.cleo)
    return team


def rule(machine: Machine, text: str = RULE) -> None:
    rc = machine.project / ".dorkyrc"
    rc.write_text(rc.read_text() + text)


def rules_of(machine: Machine, text: str) -> None:
    """Replace the rules of a project."""
    rc = machine.project / ".dorkyrc"
    rc.write_text(rc.read_text().partition("\n[[")[0] + text)


def refused(machine: Machine, *words: object, says: str, unsigned: bool = False) -> None:
    """A command ends with exit code 7, and no file was touched."""
    before = files(machine.project)
    said = machine(*words, code=7)
    assert says in said.error, said
    assert ("is not signed:" in said.error) == unsigned, said
    assert said.out == ""
    assert files(machine.project) == before


def key(machine: Machine, name: str) -> str:
    """Make a private key next to the project; return the line of a signers file for it."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", machine.base / name],
        check=True,
        timeout=60,
    )
    return (machine.base / f"{name}.pub").read_text().strip()


def test_what_nobody_has_signed_is_refused_wherever_it_is_read(team: Team) -> None:
    ana, _, cleo = team
    ana.commit({"new.env": "A=2\n", "notes": "free\n"})
    ana("push")
    refused(cleo, "pull", says="new.env is not signed", unsigned=True)
    for words in (
        ("cat", "origin/main:new.env"),
        ("download", "new.env", "x"),
        ("get", "new.env", "A"),
        ("export", "new.env"),
        ("run", "-f", "new.env", "--", "true"),
        ("checkout", "origin/main"),
        ("restore", "new.env", "--source", "origin/main"),
    ):
        refused(cleo, *words, says="new.env is not signed", unsigned=True)
    ana("sign", "new.env", "--push")
    cleo("pull")
    assert cleo.read("new.env") == b"A=2\n"
    assert cleo("cat", "HEAD:new.env").raw == b"A=2\n"


def test_an_old_version_put_back_is_refused(team: Team) -> None:
    ana, ben, cleo = team
    ana.commit({".env": "A=3\n"}, "three")
    ana("sign", ".env", "--push")
    cleo("pull")
    ben("pull")
    ben.commit({".env": "A=1\nB=2\n"}, "back to one")
    ben("push")
    refused(cleo, "pull", says="its signer has signed other content since")
    # Whoever names the old version has it.
    assert cleo("cat", "HEAD~1:.env").raw == b"A=1\nB=2\n"
    # If it is meant, it is signed again.
    ben("sign", ".env", "--push")
    cleo("pull")


def test_an_attestation_moved_to_another_path_is_refused(team: Team) -> None:
    _, ben, cleo = team
    ben.commit({"env/prod/api.env": "A=1\nB=2\n"})  # the content of .env
    plant(ben, "env/prod/api.env", taken(ben, ".env"))
    ben("push")
    refused(cleo, "pull", says="env/prod/api.env is not signed by those who have to")


def taken(machine: Machine, path: str) -> bytes:
    """The newest attestation about a file."""
    with machine.repo() as repo:
        heads = attestations.heads(repo.database, ORIGIN)
        found = attestations.about(repo.store, heads, [path])[path]
        return attestations.read(repo.store, [*found.values()][-1])


def plant(machine: Machine, path: str, body: bytes) -> None:
    """Store any bytes as an attestation about a file, as no command does."""
    with machine.repo() as repo, repo.operation("plant"):
        store, head = repo.store, repo.database.ref("attest")
        with store.writer() as writer:
            placed = attestations.store_body(store, writer, body, "all")
            at = attestations.path_of(path, attestations.id_of(body))
            made = attestations.commit(store, writer, head, {at: placed}, author="ben")
            writer.save()
        repo.database.set_ref("attest", made)


def test_attestations_of_other_repositories_and_damaged_ones_are_refused(
    team: Team,
) -> None:
    _, ben, cleo = team
    other = ben.another("other")
    other("init")
    other.commit({".env": "A=9\n"})
    other("sign", ".env")
    ben.commit({".env": "A=9\n"})
    body = bytearray(taken(ben, ".env"))
    body[-40] ^= 1
    for planted in (bytes(body), b"", b"{}", b"\xff" * 100, taken(other, ".env")):
        plant(ben, ".env", planted)
    ben("push")
    refused(cleo, "pull", says="it was made for another repository")
    ben("sign", ".env", "--push")
    cleo("pull")
    found = cleo("signatures", ".env", "--json").json
    assert sorted(one["state"] for one in found) == ["invalid"] * 5 + ["stale", "valid"]


def test_a_key_that_nobody_trusts_is_refused(team: Team) -> None:
    ana, _, cleo = team
    line = key(ana, "release")
    ana.commit({".env": "A=4\n"})
    ana("sign", ".env", "--key", ana.base / "release", "--push")
    refused(cleo, "pull", says="no trusted key has signed it")
    signers = cleo.project / ".dorkysigners"
    signers.write_text(f'release namespaces="other" {line}\n')
    refused(cleo, "pull", says="namespace")
    signers.write_text(f'release valid-before="20200101Z" {line}\n')
    refused(cleo, "pull", says="not valid any more")
    signers.unlink()
    signers.symlink_to("notes")
    assert "not a regular file" in cleo("pull", code=3).error
    signers.unlink()
    signers.write_text(f"release {line}\n")
    cleo("pull")


def test_one_signer_counts_once(team: Team) -> None:
    ana, ben, cleo = team
    rules_of(cleo, '\n[[signatures]]\npaths = [".env"]\nthreshold = 2\n')
    ana.commit({".env": "A=5\n"})
    ana("sign", ".env")
    ana("sign", ".env", "--push")
    refused(cleo, "pull", says="1 of 2 signers have signed it")
    ben("pull")
    ben("sign", ".env", "--push")
    cleo("pull")
    rules_of(cleo, '\n[[signatures]]\npaths = [".env"]\nsigners = ["cleo"]\n')
    ana.commit({".env": "A=6\n"})
    ana("sign", ".env", "--push")
    refused(cleo, "pull", says="its signer is not among those that are asked for")


def test_a_rule_may_demand_a_statement(team: Team) -> None:
    ana, _, cleo = team
    rules_of(cleo, '\n[[signatures]]\npaths = [".env"]\ntype = "build"\n')
    ana.commit({".env": "A=7\n"})
    ana("sign", ".env", "--push")
    refused(cleo, "pull", says=".env is not signed", unsigned=True)
    ana.write("build.json", '{"by": "ci", "n": 142}')
    ana("attest", ".env", "--type", "build", "--predicate", "build.json", "--unsigned", "--push")
    refused(cleo, "pull", says=".env is not signed", unsigned=True)
    ana("attest", ".env", "--type", "build", "--predicate", "build.json", "--push")
    cleo("pull")
    (_, found) = sorted(cleo("attestations", ".env", "--json").json, key=lambda one: one["state"])
    assert found["data"] == '{"by": "ci", "n": 142}'


def test_no_signers_file_comes_from_the_history(team: Team) -> None:
    _, ben, cleo = team
    line = key(ben, "own")
    ben.write(".dorkysigners", f"ana {line}\n")
    assert "belongs into git" in ben("stage", ".dorkysigners", code=2).error
    with ben.repo() as repo, repo.operation("plant"):
        forged(repo, ".dorkysigners", f"ana {line}\n".encode())
    ben("push")
    cleo("pull")
    assert not (cleo.project / ".dorkysigners").exists()


def forged(repo: object, path: str, body: bytes) -> None:
    """Commit a file that no command stages."""
    from stat import S_IFREG

    from dorky.format.model import ALL, Entry, Kind
    from dorky.repo import Repository
    from dorky.store import directories, history

    assert isinstance(repo, Repository)
    store, head = repo.store, repo.database.ref("main")
    assert head
    old = history.read_commit(store, head).trees
    with store.writer() as writer:
        content = writer.add(Kind.CHUNK, body)
        entry = Entry(path, S_IFREG | 0o644, content, len(body), attestations.id_of(body))
        tree = directories.edit(store, writer, ALL, old[ALL], {path: entry})
        trees = {**old, ALL: tree}
        made = history.add_commit(writer, trees, [head], author="ben", message="x")
        writer.save()
    repo.database.set_ref("main", made)


def test_a_content_that_lies_about_its_hash_is_refused(team: Team) -> None:
    _, ben, cleo = team
    with ben.repo() as repo, repo.operation("plant"):
        lie(repo, ".env", b"EVIL\nLINES\n")
    ben("push")
    refused(cleo, "pull", says="its SHA-256 is not the recorded one")


def lie(repo: object, path: str, body: bytes) -> None:
    """Commit other content under the hash of what somebody has signed."""
    import msgspec

    from dorky.format.model import ALL, Kind
    from dorky.repo import Repository
    from dorky.store import directories, history

    assert isinstance(repo, Repository)
    store, head = repo.store, repo.database.ref("main")
    assert head
    old = history.read_commit(store, head).trees
    (entry,) = history.lookup(store, {ALL: old[ALL]}, path)
    with store.writer() as writer:
        content = writer.add(Kind.CHUNK, body)
        other = msgspec.structs.replace(entry, content=content, size=len(body))
        tree = directories.edit(store, writer, ALL, old[ALL], {path: other})
        made = history.add_commit(writer, {**old, ALL: tree}, [head], author="ben", message="x")
        writer.save()
    repo.database.set_ref("main", made)


@pytest.mark.deep
def test_large_files_are_checked_as_they_arrive(team: Team, tmp_path: Path) -> None:
    """Their chunks are written aside, and are in no store."""
    ana, ben, cleo = team
    body = noise(9 << 20)
    ana.commit({"env/large.bin": body})
    ana("sign", "env", "--push")
    cleo("download", "env/large.bin", tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == body
    cleo("pull")
    assert cleo.read("env/large.bin") == body
    cleo("verify", "env")
    ben("pull")
    other = noise(9 << 20, 2)
    ben.commit({"other": other})
    with ben.repo() as repo, repo.operation("plant"):
        exchange(repo, "env/large.bin", "other")
    ben("push")
    fresh = teams.fresh(cleo)
    for machine, words in (
        (fresh, ("pull",)),
        (cleo, ("download", "env/large.bin", tmp_path / "x")),
        (cleo, ("cat", "origin/main:env/large.bin")),
    ):
        before = files(machine.project)
        said = machine(*words, code=7)
        assert "its SHA-256 is not the recorded one" in said.error
        assert files(machine.project) == before
        assert len(said.raw) < len(other)
    assert not (tmp_path / "x").exists()


def exchange(repo: object, path: str, other: str) -> None:
    """Commit a file's content under the hash of another one, which somebody has signed."""
    import msgspec

    from dorky.format.model import ALL
    from dorky.repo import Repository
    from dorky.store import directories, history

    assert isinstance(repo, Repository)
    store, head = repo.store, repo.database.ref("main")
    assert head
    trees = history.read_commit(store, head).trees
    ((entry,), (by,)) = (history.lookup(store, {ALL: trees[ALL]}, one) for one in (path, other))
    with store.writer() as writer:
        made = msgspec.structs.replace(entry, content=by.content, size=by.size)
        tree = directories.edit(store, writer, ALL, trees[ALL], {path: made})
        commit = history.add_commit(writer, {**trees, ALL: tree}, [head], author="ben", message="x")
        writer.save()
    repo.database.set_ref("main", commit)


def test_a_link_in_place_of_a_signed_file_is_refused(team: Team) -> None:
    _, ben, cleo = team
    (ben.project / ".env").unlink()
    (ben.project / ".env").symlink_to("notes")
    ben("stage", ".env")
    ben("commit", "-m", "a link")
    assert "symbolic link" in ben("sign", ".env", code=2).error
    ben("push")
    refused(cleo, "pull", says=".env is not signed by those who have to")


def test_the_users_own_rules_only_demand_more(team: Team) -> None:
    ana, _, cleo = team
    rules_of(cleo, "")
    (cleo.home / ".dorky" / "config").write_text(RULE)
    ana.commit({".env": "A=8\n"})
    ana("push")
    refused(cleo, "pull", says=OTHER)
    # No branch says who counts for them.
    line = key(ana, "release")
    ana("sign", ".env", "--key", ana.base / "release", "--push")
    (cleo.project / ".dorkysigners").write_text(f"release {line}\n")
    refused(cleo, "pull", says="no trusted key has signed it")
    (cleo.home / ".dorky" / "signers").write_text(f"release {line}\n")
    (cleo.home / ".dorky" / "signers").chmod(0o666)
    assert "signers" in cleo("pull", code=3).error
    (cleo.home / ".dorky" / "signers").chmod(0o600)
    cleo("pull")


def test_a_merge_asks_for_the_remotes_version(team: Team) -> None:
    ana, _, cleo = team
    ana.commit({".env": "A=1\nB=2\nC=3\n"})
    ana("push")
    cleo.commit({".env": "Z=0\nA=1\nB=2\n"})
    refused(cleo, "pull", says=OTHER)
    ana("sign", ".env", "--push")
    cleo("pull")
    assert b"C=3" in cleo.read(".env")
    assert b"Z=0" in cleo.read(".env")


def test_a_readers_signature_can_not_be_pushed(team: Team) -> None:
    ana, ben, _ = team
    ana("team", "set-role", "ben", "reader")
    teams.follow(ben, ana)
    ben("pull")
    before = root_of(ana).refs
    ben.run("sign", ".env")
    ben("push", code=6)
    ben("sign", ".env", "--push", code=6)
    assert root_of(ana).refs == before


def test_a_forged_history_of_attestations_is_refused(team: Team, file_url: Remote) -> None:
    ana, ben, cleo = team
    ana("team", "set-role", "ben", "reader")
    teams.follow(ben, ana)
    ben("pull")
    made = Forge(ben)
    commit = made.commit(made.signer)
    refs = {**made.root.refs, "attest": commit}
    version = driver_of(file_url).get("root").version  # type: ignore[union-attr]
    driver_of(file_url).swap("root", made.encode(refs=refs), expected=version)
    with pytest.raises(errors.ForgedRoot), cleo.repo() as repo:
        repo.fetch()


def test_an_outsider_finds_nothing_of_a_groups_attestations(team: Team, file_url: Remote) -> None:
    ana, ben, cleo = team
    for name in ("ben", "cleo"):
        teams.follow({"ben": ben, "cleo": cleo}[name], ana)
    ana("sync")
    ana("group", "add", "prod", "secret/**")
    ana.commit({"secret/launch-codes.env": "PIN=4711\n"})
    ana.write("bom.json", '{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    ana("sign", "secret")
    ana("sbom", "attach", "secret/launch-codes.env", "bom.json")
    ana("push")
    teams.follow(ben, ana)
    ben("pull")
    ana("verify", "secret")
    digest = attestations.id_of(b"PIN=4711\n")
    ids = [one["id"] for one in ana("signatures", "secret/launch-codes.env", "--json").json]
    seen = everything(ben) + b"".join(bucket(file_url).values())
    for word in ("launch-codes", "CycloneDX", digest, *ids):
        assert word.encode() not in seen
    for word in (digest, *ids):
        assert bytes.fromhex(word) not in seen
    # Outside and inside, both add what they may, and nothing is lost.
    ben("sign", "notes", "--push")
    ana("sign", "notes", "--push")
    ana("verify", "secret", "notes")
    # A later member of the group reads the signature; a file that moves takes it along.
    ana("group", "members", "prod", "--add", "ben")
    ben("pull")
    ben("verify", "secret")
    ana("pull")
    ana("group", "remove", "prod")
    ana("verify", "secret")


def everything(machine: Machine) -> bytes:
    """All objects that somebody can open, and what their database says."""
    with machine.repo() as repo:
        store = repo.store
        rows = store.database.connection.execute(
            "SELECT DISTINCT o.id FROM objects o JOIN packs p ON p.n = o.pack WHERE p.remote = ''"
        )
        found = b""
        for (raw,) in rows.fetchall():
            try:
                found += store.read(raw.hex())
            except errors.DorkyError:
                continue
        return found + "\n".join(repo.database.connection.iterdump()).encode()
