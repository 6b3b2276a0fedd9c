"""Identities: kept from other eyes, never overwritten, and understood by age itself."""

from __future__ import annotations

import base64
import functools
import os
import pty
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorky import errors
from dorky.cli import hints
from dorky.keys import age
from dorky.keys.age import Identity

# The scalar of 32 bytes 0x2a: nobody's key.
SECRET = "AGE-SECRET-KEY-19G4Z52329G4Z52329G4Z52329G4Z52329G4Z52329G4Z52329G4QX68XRW"
PUBLIC = "age1q740705lc9njw42y7np6dgtumqml9mrw0rxc54a3u00m8nqrtfmqg3lme7"
# bytes(range(32)), wrapped to it.
WRAPPED = (
    "6167652d656e6372797074696f6e2e6f72672f76310a2d3e2058323535313920314b5a763751734a553776456e68"
    "4d387a352f6f38486d4b4561434f354b686b37764e5378442b653254410a6c7068542b467963444145412f425a62"
    "3762363677766d6539364f4856672b52727735632f6a666a74714d0a2d3e2055625f6a6a34492d6772656173650a"
    "476e416471334555786139745941325a37315468456341782f34666f7a7059682f55553664674e534b4f56613935"
    "65657758494d6e4c54496d6c6c566678332f0a62316f776570314e673337644f4354654a6877506d474255633667"
    "52317261334349566e6858424464670a2d2d2d204158395a6b41627943306c41306d516d35794944786b4d583744"
    "50624776356272614b444e566e5556616f0a0d27c4be4371b0b46280102383dff92bb3413b5cc4fd5519c55bcabe"
    "631b1c14cd47bb2e22329e87af5c0cdd302ae24f44456cc78a38081005ddb71ad6d43e8c"
)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="umask {:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    old = os.umask(request.param)
    yield
    os.umask(old)


def test_vectors() -> None:
    (identity,) = age.parse(SECRET, "here")
    assert identity == Identity(SECRET, PUBLIC)
    assert age.unwrap(bytes.fromhex(WRAPPED), [identity]) == bytes(range(32))


# --- identity files -------------------------------------------------------------------------


def test_an_identity_survives(tmp_path: Path, umask: None) -> None:
    identity = age.generate()
    path = tmp_path / "home" / ".dorky" / "identity"
    age.save(identity, path)
    assert age.load(path) == [identity]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_secret_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    age.save(age.generate(), path)
    before = path.read_bytes()
    with pytest.raises(errors.DiskError, match="exists"):
        age.save(age.generate(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_home_that_can_not_be_is_named(tmp_path: Path) -> None:
    (tmp_path / ".dorky").touch()
    with pytest.raises(errors.DiskError, match=r"\.dorky"):
        age.save(age.generate(), tmp_path / ".dorky" / "identity")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o602, 0o610, 0o601, 0o777])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity"
    age.save(age.generate(), path)
    path.chmod(mode)
    with pytest.raises(errors.IdentityExposed, match=f"{mode:04o}") as caught:
        age.load(path)
    assert hints.hint(caught.value) == f"chmod 600 {path}"
    path.chmod(0o400)
    assert age.load(path)


def test_the_file_may_be_a_link_to_one_that_is_private(tmp_path: Path) -> None:
    path, link = tmp_path / "identity", tmp_path / "link"
    age.save(age.generate(), path)
    link.symlink_to(path)
    assert age.load(link) == age.load(path)
    path.chmod(0o644)
    with pytest.raises(errors.IdentityExposed):
        age.load(link)


def test_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "identity", tmp_path / "none" / "identity", tmp_path / "file" / "x"):
        with pytest.raises(errors.IdentityMissing):
            age.load(path)
    with pytest.raises(errors.DiskError, match="directory"):
        age.load(tmp_path)


def test_several_keys_with_comments() -> None:
    identities = [age.generate() for _ in range(3)]
    text = "# created: today\r\n\r\n" + "".join(
        f"# public key: {each.public}\n  {each.secret}\t\r\n" for each in identities
    )
    assert age.parse(text, "here") == identities
    assert age.parse(SECRET.lower(), "here")[0].public == PUBLIC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "# only a comment\n",
        PUBLIC,
        SECRET[:-1],
        SECRET + "Q",
        SECRET + " " + SECRET,
        SECRET[:40] + SECRET[40:].lower(),
        f"{SECRET}\nrubbish",
        "AGE-SECRET-KEY-1",
        "AGE-PLUGIN-YUBIKEY-1QQPQZQG",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "\0",
        "é" * 40,
        "\ufffd\ufffd",
    ],
    ids=lambda text: ascii(text[-12:]),
)
def test_what_is_no_identity_is_not_shown(text: str) -> None:
    with pytest.raises(errors.IdentityMalformed) as caught:
        age.parse(text, "DORKY_IDENTITY")
    shown = caught.value.message + hints.hint(caught.value)
    assert "DORKY_IDENTITY" in shown
    assert SECRET[20:] not in shown


def test_an_identity_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    path.write_bytes(bytes(range(256)) * 9)
    path.chmod(0o600)
    with pytest.raises(errors.IdentityMalformed):
        age.load(path)


def test_a_secret_key_does_not_show() -> None:
    identity = age.generate()
    for text in (repr(identity), repr([identity]), f"{identity}"):
        assert identity.secret not in text
        assert identity.public in text


# --- wrapping -------------------------------------------------------------------------------


def test_each_recipient_opens_it_and_nobody_else() -> None:
    ana, ben, eve = (age.generate() for _ in range(3))
    wrapped = age.wrap(b"k" * 32, [ana.public, ben.public])
    for holder in ([ana], [ben], [eve, ben], [ben, eve]):
        assert age.unwrap(wrapped, holder) == b"k" * 32
    assert age.unwrap(wrapped, [eve]) is None
    assert age.unwrap(wrapped, []) is None


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "age1",
        PUBLIC[:-1],
        PUBLIC.upper()[:9] + PUBLIC[9:],
        PUBLIC + " " + PUBLIC,
        "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t",
        SECRET,
        SECRET.lower(),
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 \xe9",
        "ecdsa-sha2-nistp256 AAAA",
        "sk-ssh-ed25519@openssh.com AAAA",
        "correct horse battery staple",
        "\xe9\x1b[",
    ],
    ids=ascii,
)
def test_what_can_not_be_sealed_to_is_refused(recipient: str) -> None:
    for refused in (
        lambda: age.wrap(b"k" * 32, [PUBLIC, recipient]),
        lambda: age.recipient(recipient),
        lambda: age.recipients(f"# a file\n{recipient}"),
    ):
        with pytest.raises(errors.BadRecipient, match="is no public key") as caught:
            refused()
        shown = caught.value.message + hints.hint(caught.value)
        assert shown.isprintable()
        for secret in (SECRET[20:], SECRET[20:].lower(), "horse", "correct"):
            assert secret not in shown


def test_a_passphrase_is_not_tried() -> None:
    # At a work factor of 30, scrypt would take a terabyte of memory.
    stanza = b"age-encryption.org/v1\n-> scrypt %s 30\n%s\n--- %s\n"
    wrapped = stanza % (b"A" * 22, b"A" * 43, b"A" * 43) + bytes(64)
    assert age.unwrap(wrapped, age.parse(SECRET, "here")) is None


def test_an_altered_wrapping_does_not_open() -> None:
    wrapped = bytes.fromhex(WRAPPED)
    holder = age.parse(SECRET, "here")
    for place in range(len(wrapped)):
        damaged = wrapped[:place] + bytes([wrapped[place] ^ 1]) + wrapped[place + 1 :]
        assert age.unwrap(damaged, holder) is None
        assert age.unwrap(wrapped[:place], holder) is None


@given(st.one_of(st.binary(), st.binary().map(lambda noise: b"age-encryption.org/v1\n" + noise)))
def test_noise_opens_for_nobody(noise: bytes) -> None:
    assert age.unwrap(noise, age.parse(SECRET, "here")) is None


@pytest.mark.skipif(not shutil.which("age"), reason="age is not installed")
def test_age_itself_opens_it(tmp_path: Path) -> None:
    identity = age.generate()
    age.save(identity, tmp_path / "identity")
    done = subprocess.run(
        ["age", "--decrypt", "--identity", tmp_path / "identity"],
        input=age.wrap(b"k" * 32, [identity.public]),
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"k" * 32


@pytest.mark.skipif(not shutil.which("age-keygen"), reason="age is not installed")
def test_a_key_from_age_keygen_is_read(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    subprocess.run(["age-keygen", "--output", path], capture_output=True, check=True)
    (identity,) = age.load(path)
    assert identity.public in path.read_text()


# --- SSH keys -------------------------------------------------------------------------------

needs_bcrypt = pytest.mark.skipif(not find_spec("bcrypt"), reason="bcrypt is not installed")


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes keys with ssh-keygen, each once: ``ssh("rsa", passphrase, "PEM", bits)``."""
    directory = tmp_path_factory.mktemp("ssh")

    @functools.cache
    def make(
        kind: str = "ed25519", passphrase: str = "", form: str = "", bits: int = 0, serial: int = 0
    ) -> Path:
        path = directory / f"{kind}{len(list(directory.iterdir()))}"
        command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "ana@example.test x"]
        command += ["-m", form] * bool(form) + ["-b", str(bits)] * bool(bits)
        if "OPENSSH" not in form and not form:
            command += ["-a", "2"]  # rounds of its key derivation
        subprocess.run([*command, "-f", path], check=True, stdin=subprocess.DEVNULL)
        return path

    return make


def public(path: Path) -> str:
    return path.with_name(f"{path.name}.pub").read_text()


@pytest.mark.parametrize(
    ("kind", "form"), [("ed25519", ""), ("rsa", ""), ("rsa", "PEM"), ("rsa", "PKCS8")]
)
def test_an_ssh_key_is_an_identity(ssh: Callable[..., Path], kind: str, form: str) -> None:
    (identity,) = age.load(ssh(kind, form=form))
    assert identity.public == " ".join(public(ssh(kind, form=form)).split()[:2])
    assert age.recipient(public(ssh(kind, form=form))) == identity.public
    assert not identity.locked
    wrapped = age.wrap(b"k" * 32, [PUBLIC, public(ssh(kind, form=form))])
    assert age.unwrap(wrapped, [age.generate(), identity]) == b"k" * 32
    assert age.unwrap(wrapped, age.parse(SECRET, "here")) == b"k" * 32
    for text in (repr(identity), f"{[identity]}"):
        assert identity.secret.splitlines()[2] not in text
        assert identity.public in text


def test_an_ssh_key_in_a_variable(ssh: Callable[..., Path]) -> None:
    text = ssh().read_text()
    (identity,) = age.parse(text, "here")
    for form in (
        text.strip(),
        text.replace("\n", "\r\n"),
        text.replace("\n", " "),
        f"\ufeff{text}",
    ):
        assert age.parse(form, "here") == [identity]
    for form in (text[:-40], text + SECRET, text + text, text.replace("b3Bl", "b3Bm")):
        with pytest.raises(errors.IdentityMalformed):
            age.parse(form, "here")


def test_ssh_keys_that_can_not_be_used_say_why(ssh: Callable[..., Path]) -> None:
    for path, why in (
        (ssh("ecdsa"), "ed25519 and RSA only"),
        (ssh("ecdsa", passphrase="horse"), "ed25519 and RSA only"),
        (ssh("ecdsa", form="PEM"), "ed25519 and RSA only"),
        (ssh("rsa", bits=1024), "RSA key of 1024 bits"),
        (ssh("rsa", bits=1024, form="PEM"), "RSA key of 1024 bits"),
    ):
        with pytest.raises(errors.UnusableIdentity, match=why):
            age.load(path)
        with pytest.raises(errors.BadRecipient, match=why):
            age.recipient(public(path))


@pytest.mark.parametrize("form", ["PEM", "PKCS8"])
def test_an_old_format_with_a_passphrase_is_converted_by_ssh_keygen(
    ssh: Callable[..., Path], form: str, tmp_path: Path
) -> None:
    path = tmp_path / "copy"
    path.write_bytes(ssh("rsa", passphrase="horse battery", form=form).read_bytes())
    path.chmod(0o600)
    with pytest.raises(errors.UnusableIdentity) as caught:
        age.load(path)
    assert hints.hint(caught.value) == f"ssh-keygen -p -f {path} converts it"
    converting = ["ssh-keygen", "-q", "-p", "-f", path, "-P", "horse battery", "-N", "new horse"]
    subprocess.run(converting, check=True, capture_output=True)
    assert age.load(path)[0].locked


class Person:
    """Answers in turn, then no more; remembers the questions."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, prompt: str) -> str | None:
        self.asked.append(prompt)
        return self.answers.pop(0) if self.answers else None


@needs_bcrypt
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_passphrase_is_asked_for_once(ssh: Callable[..., Path], kind: str) -> None:
    path = ssh(kind, passphrase="horse")
    (identity,) = age.load(path)
    assert identity.locked
    assert identity.public == " ".join(public(path).split()[:2])
    wrapped = age.wrap(b"k" * 32, [identity.public])
    assert age.unwrap(wrapped, [identity]) is None
    ana = Person("cow", "horse")
    assert age.unwrap(wrapped, [identity], ana) == b"k" * 32
    assert ana.asked == [f"Passphrase of the SSH key in {path}"] * 2
    assert age.unwrap(age.wrap(b"l" * 32, [identity.public]), [identity], ana) == b"l" * 32
    assert len(ana.asked) == 2


@needs_bcrypt
def test_nothing_is_asked_that_is_not_needed(ssh: Callable[..., Path]) -> None:
    (locked,) = age.load(ssh(passphrase="horse", serial=1))
    (other,) = age.load(ssh())
    ana = Person("horse")
    mine = age.parse(SECRET, "here")
    assert age.unwrap(age.wrap(b"k", [other.public, PUBLIC]), [locked], ana) is None
    assert age.unwrap(age.wrap(b"k", [locked.public, PUBLIC]), [locked, *mine], ana) == b"k"
    assert age.unwrap(b"noise", [locked], ana) is None
    assert ana.asked == []


@needs_bcrypt
def test_wrong_passphrases(ssh: Callable[..., Path]) -> None:
    path = ssh(passphrase="horse", serial=2)
    (locked,) = age.load(path)
    wrapped = age.wrap(b"k", [locked.public])
    for ana, asked in (
        (Person("canary1", "canary2", "canary3", "horse"), 3),
        (Person("canary1", "canary1", "horse"), 2),
    ):
        with pytest.raises(errors.WrongPassphrase, match=str(path)) as caught:
            age.unwrap(wrapped, [locked], ana)
        assert "canary" not in caught.value.message + hints.hint(caught.value)
        assert len(ana.asked) == asked
    for ana in (Person(None), Person(""), Person("canary1", None)):
        assert age.unwrap(wrapped, [locked], ana) is None


def test_without_bcrypt_it_says_what_is_missing(
    ssh: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (locked,) = age.load(ssh(passphrase="horse", serial=3))
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(errors.MissingLibrary, match="bcrypt"):
        age.unwrap(age.wrap(b"k", [locked.public]), [locked], Person("horse"))


@needs_bcrypt
def test_a_cipher_that_is_not_known(ssh: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "odd"
    odd = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "horse", "-a", "2"]
    subprocess.run([*odd, "-Z", "chacha20-poly1305@openssh.com", "-f", path], check=True)
    (locked,) = age.load(path)
    with pytest.raises(errors.UnusableIdentity, match="chacha20"):
        age.unwrap(age.wrap(b"k", [locked.public]), [locked], Person("horse"))


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_fingerprint_is_that_of_ssh_keygen(ssh: Callable[..., Path], kind: str) -> None:
    shown = subprocess.run(
        ["ssh-keygen", "-lf", ssh(kind)], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert age.fingerprint(public(ssh(kind))) == shown
    (identity,) = age.load(ssh(kind))
    assert age.fingerprint(identity.public) == shown


def test_the_fingerprint_of_an_age_key() -> None:
    assert age.fingerprint(PUBLIC) == "SHA256:UikqZBxXdoIRmggDIzsJZs3ayGfB5nYt0rz67W0kj0A"
    with pytest.raises(errors.BadRecipient):
        age.fingerprint("ssh-ed25519 rubbish")


@pytest.mark.skipif(not shutil.which("age"), reason="age is not installed")
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_age_itself_opens_it_with_an_ssh_key_and_seals_to_it(
    ssh: Callable[..., Path], kind: str, tmp_path: Path
) -> None:
    path = ssh(kind)
    wrapped = age.wrap(b"k" * 32, [PUBLIC, public(path)])
    opening = ["age", "--decrypt", "--identity", path]
    opened = subprocess.run(opening, input=wrapped, capture_output=True, check=True).stdout
    assert opened == b"k" * 32
    sealing = ["age", "--encrypt", "--recipients-file", f"{path}.pub"]
    sealed = subprocess.run(sealing, input=b"theirs", capture_output=True, check=True).stdout
    assert age.unwrap(sealed, age.load(path)) == b"theirs"


# --- public keys ----------------------------------------------------------------------------


def test_a_public_key_is_kept_in_one_form(ssh: Callable[..., Path]) -> None:
    assert age.recipient(f"  {PUBLIC}\n") == PUBLIC
    assert age.recipient(PUBLIC.upper()) == PUBLIC
    kind, data, comment = public(ssh()).split(maxsplit=2)
    assert age.recipient(f"{kind}   {data}\t{comment}") == f"{kind} {data}"


def test_a_file_of_public_keys(ssh: Callable[..., Path]) -> None:
    text = f"\ufeff# the team\r\n\r\n{PUBLIC}\r\n  # Ben\r\n{public(ssh())}\n{PUBLIC}\n"
    assert age.recipients(text) == [PUBLIC, " ".join(public(ssh()).split()[:2])]
    assert age.recipients(public(ssh("rsa")))
    for nothing in ("", "\n", f"# public key: {PUBLIC}\n"):
        with pytest.raises(errors.BadRecipient, match="empty"):
            age.recipients(nothing)
    with pytest.raises(errors.BadRecipient, match=r"ecdsa.* in line 3"):
        age.recipients(f"{PUBLIC}\n\n{public(ssh('ecdsa'))}")


def test_a_file_with_a_secret_is_no_file_of_public_keys(
    ssh: Callable[..., Path], tmp_path: Path
) -> None:
    age.save(Identity(SECRET, PUBLIC), tmp_path / "identity")
    for path in (tmp_path / "identity", ssh(), ssh("rsa", form="PEM")):
        for read in (age.recipient, age.recipients):
            with pytest.raises(errors.BadRecipient, match="secret key") as caught:
                read(path.read_text())
            shown = caught.value.message + hints.hint(caught.value)
            assert not any(line in shown for line in path.read_text().splitlines())


def strings(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


BLOBS = st.one_of(
    st.binary(max_size=400),
    st.lists(st.binary(max_size=300), max_size=4).map(lambda parts: strings(*parts)),
    st.tuples(st.integers(0, 1 << 70), st.integers(1 << 2040, 1 << 4097)).map(
        lambda pair: strings(
            b"ssh-rsa", *(number.to_bytes(number.bit_length() // 8 + 1, "big") for number in pair)
        )
    ),
    st.binary(min_size=32, max_size=32).map(lambda key: strings(b"ssh-ed25519", key)),
    st.sampled_from([b"", b"\0", b"\x80"]).map(
        lambda zero: strings(b"ssh-rsa", zero, b"\0" + b"\xff" * 256)
    ),
)


@given(
    st.one_of(
        st.text(),
        st.sampled_from(["ssh-ed25519 ", "ssh-rsa ", "age1", "sk-"]).flatmap(
            lambda kind: st.text().map(lambda text: kind + text)
        ),
        st.tuples(st.sampled_from(["ssh-ed25519", "ssh-rsa"]), BLOBS).map(
            lambda pair: f"{pair[0]} {base64.b64encode(pair[1]).decode()}"
        ),
    )
)
def test_any_text_is_a_public_key_or_is_not(text: str) -> None:
    try:
        known = age.recipient(text)
    except errors.BadRecipient as error:
        refused = error
    else:
        assert age.recipient(known) == known
        assert age.wrap(b"k" * 32, [known])
        return
    assert refused.message.isprintable()


@given(
    st.one_of(
        BLOBS,
        st.tuples(st.sampled_from([b"none", b"aes256-ctr"]), BLOBS, BLOBS).map(
            lambda three: (
                b"openssh-key-v1\0"
                + strings(three[0], b"none", b"")
                + b"\0\0\0\1"
                + strings(three[1], three[2])
            )
        ),
    ),
    st.sampled_from(["OPENSSH PRIVATE KEY", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"]),
)
def test_any_private_key_is_an_identity_or_is_not(noise: bytes, label: str) -> None:
    body = base64.b64encode(noise).decode()
    text = f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"
    try:
        (identity,) = age.parse(text, "here")
    except (errors.IdentityMalformed, errors.UnusableIdentity) as error:
        refused = error
    else:
        assert identity.locked
        assert age.unwrap(age.wrap(b"k", [PUBLIC]), [identity]) is None
        return
    assert len(body) < 8 or body not in refused.message


def test_a_public_half_that_is_another_key_s(ssh: Callable[..., Path]) -> None:
    label, *body, end = ssh().read_text().splitlines()
    mine, other = (base64.b64decode(public(key).split()[1]) for key in (ssh(), ssh(serial=4)))
    mixed = base64.b64encode(base64.b64decode("".join(body)).replace(mine, other, 1)).decode()
    with pytest.raises(errors.IdentityMalformed):
        age.parse(f"{label}\n{mixed}\n{end}\n", "here")


def test_a_damaged_ssh_key_is_refused_or_whole(ssh: Callable[..., Path]) -> None:
    label, *body, end = ssh().read_text().splitlines()
    data = base64.b64decode("".join(body))
    for place in range(len(data)):
        damaged = base64.b64encode(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            (identity,) = age.parse(f"{label}\n{damaged.decode()}\n{end}\n", "here")
        except (errors.IdentityMalformed, errors.UnusableIdentity):
            continue
        if not identity.locked:
            assert age.unwrap(age.wrap(b"k", [identity.public]), [identity]) == b"k"


@given(st.lists(st.binary(max_size=60), max_size=4), st.binary())
def test_headers_of_noise_ask_for_nothing(stanzas: list[bytes], noise: bytes) -> None:
    wrapped = b"".join(b"-> ssh-ed25519 " + each + b"\n" for each in stanzas)
    wrapped = b"age-encryption.org/v1\n" + wrapped + b"--- " + noise
    ana = Person("horse")
    assert age.unwrap(wrapped, age.parse(SECRET, "here"), ana) is None
    assert ana.asked == []


# --- a key under a passphrase ---------------------------------------------------------------


@pytest.fixture(scope="module")
def under_horse() -> bytes:
    """Made once: scrypt takes its time."""
    return age.lock(Identity(SECRET, PUBLIC), "horse é")


def test_a_key_under_a_passphrase(under_horse: bytes) -> None:
    assert age.unlock(under_horse, "horse é") == Identity(SECRET, PUBLIC)
    assert age.unlock(under_horse, "wrong") is None
    assert age.unlock(under_horse, "") is None
    with pytest.raises(errors.UsageError):
        age.lock(age.generate(), "")


def test_a_key_that_asks_for_too_much_work_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: object) -> bytes:
        pytest.fail("it was tried")

    monkeypatch.setattr(pyrage.passphrase, "decrypt", work)
    for factor in (22, 30, 99, 0):
        stanza = b"age-encryption.org/v1\n-> scrypt %s %d\n%s\n--- %s\n"
        data = stanza % (b"A" * 22, factor, b"A" * 43, b"A" * 43) + bytes(64)
        assert age.unlock(data, "horse") is None
    assert age.unlock(b"", "horse") is None
    assert age.unlock(bytes.fromhex(WRAPPED), "horse") is None


@pytest.mark.deep
@pytest.mark.skipif(not shutil.which("age"), reason="age is not installed")
def test_age_itself_opens_a_key_under_a_passphrase(under_horse: bytes, tmp_path: Path) -> None:
    """age reads the passphrase from a terminal only, so it gets one."""
    path = tmp_path / "locked"
    path.write_bytes(under_horse)
    child, terminal = pty.fork()
    if not child:
        os.execvp("age", ["age", "--decrypt", "--output", f"{path}.opened", path])
    shown = os.read(terminal, 1024)
    while b"passphrase" not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, "horse é\n".encode())
    assert os.waitpid(child, 0)[1] == 0
    os.close(terminal)
    assert Path(f"{path}.opened").read_text() == f"{SECRET}\n"


# --- a program that prints the identity -----------------------------------------------------


def python(script: str) -> str:
    return shlex.join([sys.executable, "-c", script])


def test_a_program_prints_the_identity(capfd: pytest.CaptureFixture[str]) -> None:
    script = f"import sys; print('# hi', file=sys.stderr); print({SECRET!r}, sys.stdin.read())"
    text = age.run_command(python(script))
    assert age.parse(text, "here") == [Identity(SECRET, PUBLIC)]
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err == "# hi\n"


def test_what_is_piped_to_dorky_is_not_for_the_program() -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"a value to set")
    os.close(theirs)
    kept = os.dup(0)
    os.dup2(ours, 0)
    try:
        assert age.run_command(python("import sys; print(len(sys.stdin.read()))")) == "0\n"
        assert os.read(0, 99) == b"a value to set"
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(ours)


def test_no_shell_is_run() -> None:
    assert age.run_command(python("import sys; print(sys.argv[1:])") + " '$HOME' ; *") == (
        "['$HOME', ';', '*']\n"
    )


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (python("print('canary'); raise SystemExit(3)"), "exit status 3"),
        (python("import os; os.kill(os.getpid(), 9)"), "exit status -9"),
        ("no-such-program canary", "no-such-program.*no such program"),
        ("TOKEN=canary true", "TOKEN.*no such program"),
        ("/", "Permission denied"),
        ("a\0b canary", "no such program"),
        ("'canary", "quote"),
        ("", "empty"),
        (" ", "empty"),
    ],
    ids=ascii,
)
def test_a_program_that_fails_is_named_and_nothing_else(command: str, says: str) -> None:
    with pytest.raises(errors.IdentityCommandFailed, match=says) as caught:
        age.run_command(command)
    assert "canary" not in caught.value.message + hints.hint(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
