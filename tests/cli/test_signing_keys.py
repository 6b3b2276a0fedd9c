"""Signing with keys of every type, from the command line to the programs that verify."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
import signatures as sign
from machines import Machine, started
from servers import Remote

from dorky.provenance import dsse

KINDS = ("P-256", "Ed25519", "RSA", "SSH Ed25519")


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    return started(tmp_path / "ana", file_url, {"app.tar": "content\n"})


def run(*command: object, given: bytes = b"") -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def saved(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_new_key_signs_and_its_line_trusts_it(ana: Machine, tmp_path: Path) -> None:
    key = tmp_path / "release.pem"
    made = ana("key", "gen", "--signing", key)
    [line] = made.out.splitlines()
    assert line.startswith('release namespaces="dorky-artifact" ecdsa-sha2-nistp256 ')
    assert "PRIVATE" not in made.out + made.err
    assert key.stat().st_mode & 0o777 == 0o600
    ana("sign", "app.tar", "--key", key)
    assert "no trusted key" in ana("verify", "app.tar", code=7).error
    ana.write(".dorkysigners", made.out)
    assert ana("verify", "app.tar", "--signer", "release", "--json").json[0]["valid"]
    ana.write(".dorkysigners", line.replace('"dorky-artifact"', '"git"'))
    assert "namespace" in ana("verify", "app.tar", code=7).error


def test_a_signing_key_is_never_overwritten(ana: Machine, tmp_path: Path) -> None:
    key = saved(tmp_path / "k.pem", "mine")
    assert "never overwritten" in ana("key", "gen", "--signing", key, code=5).error
    assert key.read_text() == "mine"
    assert "another kind" in ana("key", "gen", "x", "--signing", tmp_path / "n", code=2).error
    assert "another kind" in ana("key", "gen", "--ci", "x", "--signing", "n", code=2).error
    assert "does not exist" in ana("sign", "app.tar", "--key", tmp_path / "none", code=6).error
    assert "no private key in PEM" in ana("sign", "app.tar", "--key", key, code=6).error
    key.chmod(0o644)
    assert "other users" in ana("sign", "app.tar", "--key", key, code=6).error


@pytest.mark.parametrize("kind", KINDS)
def test_other_programs_verify_an_export(kind: str, ana: Machine, tmp_path: Path) -> None:
    key = sign.key(kind)
    signers = saved(tmp_path / "signers", f"robot {key.public.line}\n")
    ana.write(".dorkysigners", signers.read_text())
    secret = saved(tmp_path / "secret", sign.pem(key))
    ana("sign", "app.tar", "--key", secret)
    [found] = ana("signatures", "app.tar", "--json").json
    assert (found["state"], found["signed_by"], found["algorithm"]) == ("valid", "robot", kind)
    out = tmp_path / "out"
    if kind.startswith("SSH"):
        ana("bundle", "export", "app.tar", "-o", out, "--format", "ssh")
        use = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", "robot"]
        run(*use, "-n", "dorky-artifact", "-s", f"{out}.sig", given=out.read_bytes())
        return
    ana("bundle", "export", "app.tar", "-o", out)
    envelope = json.loads(out.read_bytes())["dsseEnvelope"]
    message = tmp_path / "message"
    message.write_bytes(dsse.encoded(base64.b64decode(envelope["payload"])))
    raw = tmp_path / "raw"
    raw.write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    public = saved(tmp_path / "public.pem", key.public.pem)
    if kind == "Ed25519":
        use = ["openssl", "pkeyutl", "-rawin", "-in", message, "-sigfile", raw]
        run(*use, "-verify", "-pubin", "-inkey", public)
    else:
        run("openssl", "dgst", "-sha256", "-verify", public, "-signature", raw, message)
    said = ana("bundle", "export", "app.tar", "-o", out, "--format", "ssh", code=2)
    assert "SSH" in said.error


def test_what_openssl_signs_is_imported(ana: Machine, tmp_path: Path) -> None:
    ana("sign", "app.tar")
    out, key = tmp_path / "out", tmp_path / "key.pem"
    ana("bundle", "export", "app.tar", "-o", out)
    envelope = json.loads(out.read_bytes())["dsseEnvelope"]
    message = tmp_path / "message"
    message.write_bytes(dsse.encoded(base64.b64decode(envelope["payload"])))
    curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    run("openssl", "genpkey", *curve, "-out", key)
    raw = tmp_path / "raw"
    run("openssl", "dgst", "-sha256", "-sign", key, "-out", raw, message)
    envelope["signatures"] = [{"keyid": "", "sig": base64.b64encode(raw.read_bytes()).decode()}]
    theirs = saved(tmp_path / "theirs.json", json.dumps(envelope, indent=2))
    public = saved(tmp_path / "public.pem", run("openssl", "pkey", "-in", key, "-pubout"))
    assert not ana("verify", "app.tar", "--key", public, "--json", code=7).json[0]["valid"]
    ana("bundle", "import", "app.tar", theirs)
    assert ana("verify", "app.tar", "--key", public, "--json").json[0]["valid"]
    assert (
        "no sound bundle: it is not JSON" in ana("bundle", "import", "app.tar", key, code=7).error
    )
