"""Signatures, SBOMs and statements, through the client."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from backends import Backend
from machines import Machine

from dorky import errors
from dorky.client import DorkyClient
from dorky.provenance import private_keys

SBOM = b'{ "bomFormat": "CycloneDX",\n "specVersion": "1.6", "version": 142 }\n'


def test_it_signs_and_verifies(local: DorkyClient, backend: Backend) -> None:
    local.upload(b"v1", "a/model.bin")
    assert not local.verify_signatures("a/model.bin").valid
    made = local.sign_artifact("a/model.bin")
    assert made.state == "valid"
    assert made.signed_by
    found = backend.client(local.url).verify_signatures("a/model.bin")
    assert found.valid
    assert [one.id for one in found.signatures] == [made.id]
    assert not local.verify_signatures("a/model.bin", threshold=2).valid
    local.upload(b"v2", "a/model.bin")
    assert "other content" in local.verify_signatures("a/model.bin").message
    assert [one.state for one in local.get_signatures("a/model.bin")] == ["stale"]
    with pytest.raises(errors.NoSuchFile):
        local.sign_artifact("nothing")


def test_bundles_for_other_programs(local: DorkyClient, tmp_path: Path) -> None:
    """Of this very content alone, those that the team trusts first."""
    local.upload(b"v1", "a.bin")
    assert local.get_bundles("a.bin") == []
    private_keys.generate(tmp_path / "one")
    ours, other = local.sign_artifact("a.bin"), local.sign_artifact("a.bin", tmp_path / "one")
    found = local.get_bundles("a.bin")
    assert [hashlib.sha256(body).hexdigest() for body in found] == [ours.id, other.id]
    local.upload(b"v2", "a.bin")
    assert local.get_bundles("a.bin") == []


def test_plain_keys_count_by_themselves(local: DorkyClient, tmp_path: Path) -> None:
    local.upload(b"v1", "a.bin")
    key, other = (private_keys.generate(tmp_path / name) for name in ("one", "two"))
    made = local.sign_artifact("a.bin", tmp_path / "one")
    assert (made.state, made.signed_by) == ("untrusted", "")
    assert local.verify_signatures("a.bin", [key.public.pem]).valid
    (tmp_path / "one.pub").write_text(key.public.line)
    assert local.verify_signatures("a.bin", [tmp_path / "one.pub", other.public.pem]).valid
    assert not local.verify_signatures("a.bin", [other.public.pem]).valid
    assert not local.verify_signatures("a.bin", []).valid
    local.sign_artifact("a.bin", (tmp_path / "two").read_text())
    both = [key.public.pem, other.public.pem]
    assert local.verify_signatures("a.bin", both, threshold=2).valid
    with pytest.raises(errors.SigningKeyMissing):
        local.sign_artifact("a.bin", tmp_path / "three")


def test_what_is_attached_comes_back(local: DorkyClient, backend: Backend) -> None:
    local.upload(b"v1", "app.tar")
    with pytest.raises(errors.NoAttestation):
        local.get_sbom("app.tar")
    made = local.attach_sbom("app.tar", "cyclonedx", SBOM)
    assert (made.format, made.content.encode(), made.state) == ("cyclonedx", SBOM, "valid")
    with pytest.raises(errors.BadSBOM):
        local.attach_sbom("app.tar", "spdx", SBOM)
    local.add_attestation("app.tar", "build", '{"n": 142.0}')
    other = backend.client(local.url)
    assert other.get_sbom("app.tar").content.encode() == SBOM
    (found,) = other.get_attestations("app.tar", type="build")
    assert found.data == '{"n": 142.0}'
    assert len(other.get_attestations("app.tar")) == 2
    assert other.get_signatures("app.tar") == []
    with pytest.raises(errors.UsageError):
        other.add_attestation("app.tar", "build", "[]")


def test_signatures_made_at_once_are_all_kept(local: DorkyClient, backend: Backend) -> None:
    for n in range(4):
        local.upload(b"%d" % n, f"{n}.bin")
    clients = [backend.client(local.url) for _ in range(2)]

    def sign(n: int) -> None:
        clients[n % 2].sign_artifact(f"{n}.bin")
        clients[n % 2].upload(b"more", f"{n}.more")

    threads = [threading.Thread(target=sign, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert all(local.verify_signatures(f"{n}.bin").valid for n in range(4))
    assert all(local.exists(f"{n}.more") for n in range(4))


def test_rules_hold_for_the_client(
    local: DorkyClient, backend: Backend, tmp_path: Path, hermetic: Path
) -> None:
    local.upload(b"v1", "env/a.bin")
    local.upload(b"x", "free.txt")
    config = hermetic / ".dorky" / "config"
    config.write_text('[[signatures]]\npaths = ["env/**"]\n')
    client = backend.client(local.url)
    for read in (
        lambda: client.read("env/a.bin"),
        lambda: client.read("env/a.bin", start=0, end=1),
        lambda: client.open("env/a.bin").read(),
        lambda: b"".join(client.stream("env/a.bin")),
        lambda: client.download("env/a.bin", tmp_path / "out"),
        lambda: client.download_batch(["env/a.bin"], tmp_path / "many"),
        lambda: client.snapshot(tmp_path / "snapshot"),
    ):
        with pytest.raises((errors.Unsigned, errors.BatchError)):
            read()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert client.read("free.txt") == b"x"
    assert client.stat("env/a.bin").size == 2
    client.sign_artifact("env/a.bin")
    assert client.read("env/a.bin") == b"v1"
    assert client.open("env/a.bin").read() == b"v1"
    client.snapshot(tmp_path / "snapshot")
    assert (tmp_path / "snapshot" / "env" / "a.bin").read_bytes() == b"v1"


def test_a_purge_is_not_undone_by_a_client(local: DorkyClient, tmp_path: Path) -> None:
    local.upload(b"v1", "gone.bin")
    local.upload(b"v1", "kept.bin")
    local.sign_artifact("gone.bin")
    ana = Machine(tmp_path / "ana", {})
    ana.home = Path.home()
    ana("clone", local.url, ".")
    ana("purge", "gone.bin", "--yes")
    local.sign_artifact("kept.bin")
    local.upload(b"again", "gone.bin")
    assert local.get_signatures("gone.bin") == []
    assert local.verify_signatures("kept.bin").valid
