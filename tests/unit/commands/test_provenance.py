"""Signing and verifying files through the command line, and the ref that holds signatures."""

from __future__ import annotations

from pathlib import Path

import pytest
import teams
from machines import Machine, root_of, started
from servers import Remote
from teams import Team


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(tmp_path / "ana", file_url, {".env": "KEY=1\n", "b/c.bin": "c\n"})


@pytest.fixture
def team(tmp_path: Path, file_url: Remote) -> Team:
    return teams.gather(tmp_path, file_url)


def states(machine: Machine, path: str) -> list[str]:
    return [found["state"] for found in machine("signatures", path, "--json").json]


def test_a_signature_is_pushed_and_pulled(ana: Machine, file_url: Remote) -> None:
    said = ana("sign", ".env", "b", "--push", "--json").json
    assert [one["path"] for one in said["added"]] == [".env", "b/c.bin"]
    assert {one["state"] for one in said["added"]} == {"valid"}
    assert said["pushed"]["attestations"] == 2
    assert "attest" in root_of(ana).refs
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    (found,) = ben("verify", ".env", "--json").json
    assert found["valid"]
    assert found["message"].startswith("signed by ")
    (one,) = found["signatures"]
    assert (one["state"], one["type"]) == ("valid", "urn:dorky:signature:v1")


def test_what_is_not_signed_does_not_verify(ana: Machine) -> None:
    said = ana("verify", ".env", code=7)
    assert said.error == ".env is not signed: nobody has signed it"
    ana("sign", ".env")
    ana("verify", ".env")
    ana.write(".env", "KEY=2\n")
    assert "signed for other content" in ana("verify", ".env", code=7).error
    (found,) = ana("verify", ".env", "--json", code=7).json
    assert not found["valid"]
    assert states(ana, ".env") == ["stale"]


def test_a_new_version_makes_the_old_signature_stale(ana: Machine) -> None:
    ana("sign", ".env")
    ana.commit({".env": "KEY=2\n"})
    ana("sign", ".env")
    ana("verify", ".env")
    ana.write(".env", "KEY=1\n")
    assert "has signed other content since" in ana("verify", ".env", code=7).error
    ana("verify", ".env", "--rev", "HEAD~1")


@pytest.mark.parametrize("staged", [False, True])
def test_what_is_signed_may_not_be_what_is_on_disk(ana: Machine, staged: bool) -> None:
    assert "on disk" not in ana("sign", ".env", "b").err
    ana.write(".env", "KEY=3\n")
    if staged:
        ana("stage", ".env")
    said = ana("sign", ".env", "b")
    assert said.err.splitlines() == [
        "That is the committed version, not the one on disk, of .env",
        "hint: dorky commit -a -m MESSAGE, then run the command again",
    ]
    assert ana("sign", ".", "--json").json["edited"] == [".env"]
    assert ana("sign", ".", "--rev", "main", "--json").json["edited"] == []
    ana("commit", "-a", "-m", "x")
    (ana.project / "b" / "c.bin").unlink()
    assert ana("sign", ".", "--json").json["edited"] == []


def test_two_who_sign_at_once_lose_nothing(team: Team) -> None:
    ana, ben, cleo = team
    ana("sign", ".env", "--push")
    ben("sign", ".env", "notes", "--push")
    cleo("pull")
    assert states(cleo, ".env") == ["valid", "valid"]
    cleo("verify", ".env", "--threshold", "2", "--signer", "ana", "--signer", "ben")
    assert "1 of 2" in cleo("verify", "notes", "--threshold", "2", code=7).error
    cleo("sign", ".env")
    ana("sign", "notes", "--push")
    cleo("sync")
    ana("fetch")
    ana("verify", ".env", "--threshold", "3")


def test_signing_is_undone(ana: Machine) -> None:
    ana("sign", ".env")
    ana("undo")
    assert states(ana, ".env") == []
    ana("sign", ".env", "--push")
    ana("undo")
    assert states(ana, ".env") == ["valid"]  # the remote has it
    ana("pull")
    ana("sign", "b/c.bin", "--push")
    ana("verify", ".env", "b/c.bin")


def test_a_purge_takes_what_vouches_for_a_file_with_it(ana: Machine, file_url: Remote) -> None:
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    ana("sign", ".env", "b", "--push")
    ben("pull")
    ben("sign", "b")
    ana("purge", "b/c.bin", "--yes")
    assert states(ana, ".env") == ["valid"]
    with ana.repo() as repo:
        assert holds(repo, "b/c.bin") == []
    ben("pull")
    with ben.repo() as repo:
        assert holds(repo, "b/c.bin") == []
        assert len(holds(repo, ".env")) == 1
    ben("sign", ".env", "--push")
    ana("fetch")
    with ana.repo() as repo:
        assert holds(repo, "b/c.bin") == []
        assert len(holds(repo, ".env")) == 2
    ana("fsck", "--remote")


def holds(repo: object, path: str) -> list[str]:
    from dorky.project import ORIGIN
    from dorky.repo import Repository
    from dorky.store import attestations

    assert isinstance(repo, Repository)
    heads = attestations.heads(repo.database, ORIGIN)
    return [*attestations.about(repo.store, heads, [path])[path]]


def test_collections_and_rotations_keep_it(team: Team) -> None:
    ana, ben, _ = team
    ben("sign", ".env", "env", "--push")
    ana("pull")
    ana("gc")
    ana("gc", "--remote")
    ana("rotate")
    ana("gc", "--remote")
    ben("pull")
    ben("verify", ".env", "env")
    ana("verify", ".env", "env")
    ana("fsck", "--remote", "--read-data")
    fresh = teams.fresh(ana)
    fresh("pull")
    fresh("verify", ".env", "env")


def test_a_copy_of_the_repository_has_it(ana: Machine, tmp_path: Path) -> None:
    ana("sign", ".env", "--push")
    ana("mirror", "origin", tmp_path / "copy")
    ben = ana.another("ben")
    ben("clone", tmp_path / "copy", ".")
    ben("verify", ".env")


def test_a_signature_moves_to_another_place(ana: Machine, tmp_path: Path) -> None:
    ana("sign", ".env", "--push")
    ana("remote", "set-url", "origin", tmp_path / "elsewhere")
    ana("push")
    ben = ana.another("ben")
    ben("clone", tmp_path / "elsewhere", ".")
    ben("verify", ".env")


def test_bundles_go_out_and_come_in(ana: Machine, tmp_path: Path) -> None:
    ana("sign", ".env")
    out = tmp_path / "bundle.json"
    ana("bundle", "export", ".env", "-o", out)
    ana("verify", ".env", "--bundle", out)
    assert (
        "not made with an SSH key"
        in ana("bundle", "export", ".env", "-o", tmp_path / "x", "--format", "ssh", code=2).error
    )
    assert "is about '.env'" in ana("bundle", "import", "b/c.bin", out, code=7).error
    ana("undo")
    assert states(ana, ".env") == []
    ana("bundle", "import", ".env", out)
    assert states(ana, ".env") == ["valid"]
    ana("bundle", "export", "b/c.bin", "-o", out, code=4)
    out.write_bytes(b"{}")
    ana("bundle", "import", ".env", out, code=7)
    ana("verify", ".env", "--bundle", out, code=7)


def test_sboms_come_back_byte_for_byte(ana: Machine, tmp_path: Path) -> None:
    first = '{ "bomFormat":"CycloneDX",\n "specVersion": "1.6", "n": 142 }\n'
    (tmp_path / "one.json").write_text(first)
    (tmp_path / "two.spdx").write_text("SPDXVersion: SPDX-2.3\nDataLicense: CC0-1.0\n")
    ana("sbom", "attach", ".env", tmp_path / "one.json")
    assert ana("sbom", "get", ".env").out == first
    ana("sbom", "attach", ".env", tmp_path / "two.spdx", "--unsigned")
    assert ana("sbom", "get", ".env").out == first
    got = ana("sbom", "get", ".env", "--format", "spdx")
    assert got.out.startswith("SPDXVersion")
    assert got.err == "It is unsigned: nobody has signed it\n"
    ana("sbom", "get", ".env", "-o", tmp_path / "out")
    assert (tmp_path / "out").read_text() == first
    found = ana("sbom", "list", ".env", "--json").json
    assert [(one["format"], one["state"], one["content"]) for one in found] == [
        ("cyclonedx", "valid", ""),
        ("spdx", "unsigned", ""),
    ]
    ana.commit({".env": "KEY=2\n"})
    assert "It is stale" in ana("sbom", "get", ".env").err
    ana("sbom", "get", "b/c.bin", code=4)
    ana("sbom", "attach", ".env", tmp_path / "one.json", "--format", "spdx", code=2)


def test_a_client_that_knows_nothing_of_it_keeps_it(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, cleo = team
    ana("sign", ".env", "--push")
    before = root_of(ana).refs["attest"]
    with monkeypatch.context() as patched:
        patched.setattr(
            "dorky.remote.push._heads", lambda store, known, refs, head: {"heads/main": head}
        )
        patched.setattr("dorky.store.attestations.catch_up", lambda store, remote: None)
        patched.setattr("dorky.store.attestations.unpushed", lambda database, remote: False)
        ben("pull")
        ben.commit({"more": "m\n"})
        ben("push")
        ben("gc", "--remote")
        ben("rotate")
    assert root_of(ana).refs["attest"] == before
    cleo("pull")
    cleo("verify", ".env")


def test_a_member_who_left_is_in_force_until_then(team: Team) -> None:
    ana, ben, cleo = team
    ben("sign", ".env", "--push")
    ana("pull")
    ana("team", "remove", "ben", "--yes")
    cleo("pull")
    cleo("verify", ".env", "--signer", "ben")
