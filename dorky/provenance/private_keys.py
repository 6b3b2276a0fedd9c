"""Private keys that sign: P-256, P-384, Ed25519 and RSA in PEM, and SSH keys.

A new key is P-256 in PKCS#8, which every verifier understands. SSH keys of the types Ed25519 and
RSA sign in the form of SSHSIG, so that ``ssh-keygen -Y verify`` can check them; all others, and the
keys that are derived from age identities, sign the encoding of `dsse` itself.

Sources: RFC 5958 (PKCS#8), OpenSSH's PROTOCOL.key and PROTOCOL.sshsig.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from dorky import errors, files, native
from dorky.keys import age, ssh, sshsig
from dorky.keys.sshsig import Namespace
from dorky.provenance import public_keys, signers
from dorky.provenance.public_keys import PublicKey
from dorky.results import SigningKey


class PrivateKey(NamedTuple):
    """A private key that signs.

    Attributes:
        public: The public key that verifies it.
        key: The private key of `cryptography`.
        is_ssh: Whether it signs in the form of SSHSIG.
    """

    public: PublicKey
    key: Any
    is_ssh: bool = False

    def sign(self, message: bytes) -> bytes:
        """Return the key's signature of a message, as `PublicKey.verify` takes it."""
        if self.is_ssh:
            raw = sshsig.sign(self.key, Namespace.ARTIFACT, message)
            return sshsig.blob(self.public.line, Namespace.ARTIFACT, raw)
        if self.public.algorithm == "Ed25519":
            return bytes(self.key.sign(message))
        if self.public.algorithm == "RSA":
            return bytes(self.key.sign(message, *sshsig.rsa("SHA256")))
        return bytes(self.key.sign(message, public_keys.ecdsa(self.public.algorithm)))

    def __repr__(self) -> str:
        # A secret must not show up in a traceback or a log.
        return f"PrivateKey({self.public.line})"


def generate(path: Path) -> PrivateKey:
    """Make a P-256 key in a new file, mode 0600, in PKCS#8.

    Raises:
        KeyExists: The file exists: a key is never overwritten.
        DiskError: The file can't be written.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    if path.exists() or path.is_symlink():
        raise errors.KeyExists(path)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    with files.disk_errors(path.parent):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_atomic(path, pem, mode=0o600, replace=False)
    return PrivateKey(public_keys.of(key.public_key()), key)


def make(path: str) -> SigningKey:
    """Make a key in a new file (see `generate`), and return the line that trusts it.

    Its name in that line is the file's, without an ending.

    Raises:
        BadName: That is not one word.
    """
    target = files.expanded(path)
    signers.check_name(target.stem)
    made = generate(target)
    return SigningKey(
        line=signers.line(target.stem, made.public),
        fingerprint=made.public.fingerprint,
        source=str(target),
    )


def load(path: Path, ask: age.Ask = age.nobody) -> PrivateKey:
    """Read a private key from a file.

    Args:
        path: A file in PEM or OpenSSH's format, perhaps under a passphrase.
        ask: Asks for that passphrase.

    Raises:
        SigningKeyMissing: The file does not exist.
        IdentityExposed: Users other than its owner can read it, and the user could prevent that.
        BadSigningKey: It holds no private key that can sign.
        WrongPassphrase: The passphrase is wrong.
    """
    try:
        text = age.read_secret(path)
    except errors.IdentityMissing:
        raise errors.SigningKeyMissing(path) from None
    return read(text, str(path), ask)


def read(text: str, source: str, ask: age.Ask = age.nobody) -> PrivateKey:
    """Read a private key from a text (see `load`)."""
    found = ssh.PEM.search(text)
    if found is None:
        raise errors.BadSigningKey(source, "it has no private key in PEM")
    is_openssh = found[1] == "OPENSSH PRIVATE KEY"
    body = found[2] if ":" in found[2] else "\n".join(found[2].split())
    # Secret stores of CI systems often turn line breaks into blanks.
    pem = f"-----BEGIN {found[1]}-----\n{body}\n-----END {found[1]}-----\n"
    key = _loaded(pem.encode(), is_openssh, source, ask)
    try:
        public = public_keys.of(key.public_key())
    except ValueError as error:
        raise errors.BadSigningKey(source, error) from None
    return PrivateKey(public, key, is_openssh and public.line.startswith("ssh-"))


def _loaded(pem: bytes, is_openssh: bool, source: str, ask: age.Ask) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as form

    load = form.load_ssh_private_key if is_openssh else form.load_pem_private_key
    passphrase = None
    if b"ENCRYPTED" in pem or (is_openssh and _is_locked(pem)):
        passphrase = ask(f"Passphrase of the key in {source}")
        if not passphrase:
            raise errors.BadSigningKey(source, "it has a passphrase, which nobody gave")
    try:
        return load(pem, passphrase.encode() if passphrase else None)
    except UnsupportedAlgorithm:
        raise errors.BadSigningKey(source, public_keys.UNFIT) from None
    except (ValueError, TypeError):
        if passphrase:
            raise errors.WrongPassphrase(source) from None
        raise errors.BadSigningKey(source, ssh.DAMAGED) from None
    except BaseException as error:
        if not native.panicked(error):
            raise
        raise errors.BadSigningKey(source, ssh.DAMAGED) from None


def _is_locked(pem: bytes) -> bool:
    try:
        return ssh.locked(pem.decode())
    except ValueError:
        return False
