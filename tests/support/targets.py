"""What reads bytes that others may have written, for fuzzing: hypothesis and atheris feed the same.

A target takes any bytes. It returns, or fails an assertion, or lets an error through that nobody
should meet. What is sealed is fuzzed from outside, as a stranger could alter it, and from inside,
as a member could write it: then the bytes are sealed here, so that they are read to their end.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import pyrage
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from dorky import config, documents, errors
from dorky.format import codec, model
from dorky.format.model import (
    ALL,
    Chunk,
    Chunks,
    Commit,
    Entry,
    Group,
    Header,
    Inline,
    Kind,
    Locked,
    Member,
    Pack,
    Request,
    Root,
    Roster,
    Table,
    Tree,
)
from dorky.keys import age, placement, roster, vault
from dorky.keys.vault import Vault
from dorky.remote import root as roots
from dorky.store import pack, table

URL = "s3://acme-vault/payments"
ANA, BEN = age.generate(), age.generate()
OPS = "0123456789abcdef"
PASSPHRASE = "correct horse"
ONE = "1" * 64


class Closed(Exception):
    """It opened nothing."""


class Target(NamedTuple):
    """A decoder, valid bytes for it, and what it may raise of others."""

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    refusals: tuple[type[Exception], ...]

    def takes(self, data: bytes) -> bool:
        """Feed it; whether it took the bytes. Whatever else comes out is a bug."""
        try:
            self.run(data)
        except self.refusals as error:
            str(error)  # a message that can't be made is a bug that comes late
            return False
        return True


TARGETS: dict[str, Target] = {}
Run = Callable[[bytes], None]


def _target(name: str, *refusals: type[Exception], seeds: Sequence[bytes]) -> Callable[[Run], Run]:
    def register(run: Run) -> Run:
        TARGETS[name] = Target(run, seeds, refusals)
        return run

    return register


# --- a repository with some of everything, sealed and plain ---------------------------------


def _sealed() -> tuple[Header, Vault]:
    header, opened = vault.create([ANA.public, BEN.public])
    header, opened = vault.begin_epoch(header, opened, OPS, [ANA.public])
    header, opened = vault.begin_epoch(header, opened, ALL, [ANA.public])
    return msgspec.structs.replace(header, mailbox=BEN.public), vault.unlock(header, [ANA])


REPOSITORIES = {"sealed": _sealed(), "plain": vault.create([])}

TREE = Tree(
    (
        Entry(".env", 0o100600, ONE, 9, "2" * 64),
        Entry("config", 0o040000, "3" * 64),
        Entry("link", 0o120000, "4" * 64, 6, "5" * 64, {"note": "é"}),
    )
)
CHUNKS = Chunks((Chunk(ONE, 1 << 20), Chunk("2" * 64, 4 << 20), Chunk(ONE, 1)))
COMMIT = Commit(
    {ALL: ONE, OPS: "2" * 64},
    ("3" * 64, "4" * 64),
    "Ana <ana@example.test>",
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    'said "so"\n',
    "f" * 40,
    {"a": "b"},
)
BODIES = {
    Kind.CHUNK: b"TOKEN=abc123\n" * 20,
    Kind.CHUNKS: model.encode(CHUNKS),
    Kind.TREE: model.encode(TREE),
    Kind.COMMIT: model.encode(COMMIT),
}


def _team(opened: Vault) -> Roster:
    if not opened.sealed:
        return Roster()
    members = (Member("ana", (ANA.public,), (OPS,)), Member("ci@acme", (BEN.public,)))
    named = Roster(members, (Group(OPS, "ops", ("env/prod/**", "*.pem")),))
    return roster.sealed(Roster(), named, opened)


def _root(opened: Vault) -> Root:
    body = BODIES[Kind.TREE]
    inline = Inline(Kind.TREE, ONE, opened.store(Kind.TREE, ONE, body))
    return Root(
        3,
        "a" * 32,
        ("b" * 32, "c" * 32),
        {"heads/main": ONE},
        (Pack(ONE, 1000, 500, opened.epochs),),
        (inline,),
        1,
        ("2" * 64,),
        _team(opened),
        BEN.secret if opened.sealed else "",
    )


class _Written:
    """A binary file that keeps what is written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def _pack(opened: Vault) -> tuple[Pack, bytes]:
    file = _Written()
    writer = pack.PackWriter(file, opened)  # type: ignore[arg-type]
    for kind, body in BODIES.items():
        object_id = opened.object_id(kind, body)
        writer.append(kind, object_id, opened.store(kind, object_id, body))
    return writer.finish(), file.data


# --- roots ----------------------------------------------------------------------------------


def mended(data: bytes) -> bytes:
    """A root with a checksum that fits: anybody can make one."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


_ROOTS = (errors.CorruptRoot, errors.FormatTooNew, errors.FormatTooOld, errors.ForgedGroup)


def _read_root(data: bytes, opened: Vault | None) -> None:
    header, body = roots.read_header(data, URL)
    if opened is None:
        opened = vault.unlock(header, [ANA])
    root = roots.read_body(header, body, opened, URL)
    roster.check(header, root.roster, opened, _team(opened), URL)
    # What was taken can be written again.
    assert roots.read_header(roots.encode(header, root, opened), URL)[0] == header


_LOCKS = (Locked(BEN.public, "passphrase", b"x"), Locked(BEN.public, "awskms", b"y", "arn:aws:x"))
_HEADERS = [header for header, _ in REPOSITORIES.values()]
_HEADERS += [msgspec.structs.replace(_HEADERS[0], locked=_LOCKS)]


@_target(
    "header",
    *(errors.CorruptRoot, errors.FormatTooNew, errors.FormatTooOld),
    *(errors.NoKey, errors.WrongKey),
    seeds=[model.encode(each) for each in _HEADERS],
)
def _header(clear: bytes) -> None:
    """As anybody may write one, whose body is somebody else's."""
    data = struct.pack(">8sI", b"DORKYRT1", len(clear)) + clear + bytes(100)
    header, _ = roots.read_header(mended(data + bytes(32)), URL)
    vault.unlock(header, [ANA])


def _targets_of(name: str, header: Header, opened: Vault) -> None:
    whole = roots.encode(header, _root(opened), opened)
    clear = model.encode(header)

    @_target(f"{name} root", *_ROOTS, seeds=[whole])
    def _root_bytes(data: bytes) -> None:
        _read_root(data, opened)

    @_target(f"{name} root, mended", *_ROOTS, errors.NoKey, errors.WrongKey, seeds=[whole])
    def _mended(data: bytes) -> None:
        _read_root(mended(data), None)

    @_target(f"{name} root body", *_ROOTS, seeds=[model.encode(_root(opened))])
    def _root_body(data: bytes) -> None:
        packed = codec.compress(data)
        framed = struct.pack(">HI", 0, len(packed)) + packed
        framed = framed.ljust(-(-len(framed) // 4096) * 4096, b"\0")
        body = opened.close(framed, f"root\0{clear.decode()}")
        made = struct.pack(">8sI", b"DORKYRT1", len(clear)) + clear + body
        _read_root(mended(made + bytes(32)), opened)

    @_target(f"{name} root frame", *_ROOTS, seeds=[_frame(whole, clear, opened)])
    def _framed(data: bytes) -> None:
        body = opened.close(data, f"root\0{clear.decode()}")
        made = struct.pack(">8sI", b"DORKYRT1", len(clear)) + clear + body
        _read_root(mended(made + bytes(32)), opened)

    _targets_of_table(name, opened)
    packed, data = _pack(opened)

    @_target(f"{name} tail", errors.CorruptPack, seeds=[data[packed.tail :]])
    def _tail(tail: bytes) -> None:
        # Whoever lists a pack says how large it is: any size that the bytes may have.
        _read_tail(_listed(tail, packed), tail, opened)

    @_target(f"{name} index", errors.CorruptPack, seeds=[_index(data, opened)])
    def _index_body(body: bytes) -> None:
        index = opened.close(codec.compress(body), "index")
        _, start, digest = pack.read_footer(ONE, data, len(data))
        footer = struct.pack(">QI32s8s", packed.tail, len(index), digest, b"DORKYPK2")
        tail = data[packed.tail : start] + index + footer
        _read_tail(_listed(tail, packed), tail, opened)

    for kind, body in BODIES.items():
        _targets_of_object(name, kind, body, opened)


def _frame(data: bytes, clear: bytes, opened: Vault) -> bytes:
    return opened.open(data[12 + len(clear) : -32], f"root\0{clear.decode()}")


def _targets_of_table(name: str, opened: Vault) -> None:
    """Pages of a table: as the bucket holds them, and as a member may have made them."""
    packed, data = _pack(opened)
    where = pack.read_tail(packed, data[packed.tail :], opened)
    made, whole = table.build([(packed, where)], opened)
    for n, read in enumerate((table.read_page, table.read_list)):
        start, end = table.span(made, n)
        page = whole[start:end]

        @_target(f"{name} table page {n}", errors.CorruptTable, seeds=[page])
        def _page(
            data: bytes, n: int = n, page: bytes = page, read: Callable[..., Any] = read
        ) -> None:
            read(made, n, data, opened)
            assert data == page

        body = opened.open(page[:-32], "table")

        @_target(f"{name} table body {n}", errors.CorruptTable, seeds=[body])
        def _body(data: bytes, read: Callable[..., Any] = read) -> None:
            sealed = opened.close(data, "table")
            salt = data[:16].ljust(16, b"\0").hex()
            listed = Table(ONE, salt, max(1, len(sealed)), 1, 0, 1, 1)
            name = table._name(table.footer(listed), table._leaf(sealed))
            found = read(msgspec.structs.replace(listed, id=name), 0, sealed, opened)
            assert len(found) <= len(data)


def _targets_of_object(name: str, kind: Kind, body: bytes, opened: Vault) -> None:
    object_id = opened.object_id(kind, body)
    stored = opened.store(kind, object_id, body)

    @_target(f"{name} {kind.value}", errors.CorruptObject, seeds=[stored])
    def _stored(data: bytes) -> None:
        assert opened.read(kind, object_id, data) == body

    @_target(f"{name} {kind.value}, inside", errors.CorruptObject, seeds=[codec.compress(body)])
    def _packed(data: bytes) -> None:
        sealed = opened.close(data, f"{kind.value}\0{object_id}")
        assert opened.read(kind, object_id, sealed) == body


def _listed(tail: bytes, packed: Pack) -> Pack:
    name, size = hashlib.sha256(tail).hexdigest(), packed.tail + len(tail)
    return Pack(name, size, packed.tail, packed.epochs)


def _index(data: bytes, opened: Vault) -> bytes:
    _, start, _ = pack.read_footer(ONE, data, len(data))
    return codec.inflate(opened.open(data[start : -pack.FOOTER], "index"), limit=1 << 20)


def _read_tail(packed: Pack, tail: bytes, opened: Vault) -> None:
    found = pack.read_tail(packed, tail, opened)
    assert all(8 <= at.offset <= at.offset + at.length <= packed.size for at in found)
    # A small pack can't have a large index.
    assert len(found) <= packed.size


for _name, _made in REPOSITORIES.items():
    _targets_of(_name, *_made)


@_target("footer", errors.CorruptPack, seeds=[_pack(REPOSITORIES["plain"][1])[1][-80:]])
def _footer(data: bytes) -> None:
    for size in (1 << 20, (1 << 63) - 1):
        tail, index, _ = pack.read_footer(ONE, data, size)
        assert 8 <= tail <= index <= size - pack.FOOTER


# --- objects and records --------------------------------------------------------------------


@_target("compressed", codec.CodecError, seeds=[codec.compress(each) for each in BODIES.values()])
def _inflate(data: bytes) -> None:
    assert len(codec.inflate(data, limit=1 << 16)) <= 1 << 16


def _object(kind: Kind, decode: Callable[[bytes, str], Tree | Chunks | Commit]) -> None:
    @_target(kind.value, errors.CorruptObject, errors.UnsafePath, seeds=[BODIES[kind]])
    def run(data: bytes) -> None:
        record = decode(data, ONE)
        assert decode(model.encode(record), ONE) == record


_object(Kind.TREE, model.decode_tree)
_object(Kind.CHUNKS, model.decode_chunks)
_object(Kind.COMMIT, model.decode_commit)


@_target(
    "roster",
    *(model.Malformed, errors.CorruptRoot, errors.ForgedGroup),
    seeds=[model.encode(_team(REPOSITORIES["sealed"][1]))],
)
def _roster(data: bytes) -> None:
    header, opened = REPOSITORIES["sealed"]
    found = model.decode(Roster, data)
    assert model.decode(Roster, model.encode(found)) == found
    for path in ("env/prod/.env", "a" * 50, "x/" * 50 + "y"):
        placement.claimants(found, path)
    roster.check(header, found, opened, Roster(), URL)


@_target(
    "request",
    *(model.Malformed, errors.BadRecipient),
    seeds=[model.encode(Request("carl", BEN.public, "ssh-ed25519 AAAA"))],
)
def _request(data: bytes) -> None:
    found = model.decode(Request, data)
    assert model.decode(Request, model.encode(found)) == found
    assert age.recipient(age.recipient(found.recipient)) == age.recipient(found.recipient)


# --- keys -----------------------------------------------------------------------------------


@_target(
    "wrapped",
    Closed,
    seeds=[age.wrap(bytes(32), [BEN.public, ANA.public]), age.wrap(b"", [ANA.public])],
)
def _wrapped(data: bytes) -> None:
    if age.unwrap(data, [ANA]) is None:
        raise Closed


def locked(secret: bytes, passphrase: str, work: int) -> bytes:
    """An age file under a passphrase, of any work factor: dorky's own takes a second.

    Source: https://age-encryption.org/v1
    """

    def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
        return HKDF(hashes.SHA256(), 32, salt, info).derive(key)

    def text(data: bytes) -> bytes:
        return base64.b64encode(data).rstrip(b"=")

    salt, key, nonce = bytes(16), b"k" * 16, bytes(16)
    wrap = Scrypt(b"age-encryption.org/v1/scrypt" + salt, 32, 1 << work, 8, 1)
    body = ChaCha20Poly1305(wrap.derive(passphrase.encode())).encrypt(bytes(12), key, None)
    head = b"age-encryption.org/v1\n-> scrypt %s %d\n%s\n---" % (text(salt), work, text(body))
    mac = hmac.digest(hkdf(key, b"", b"header"), head, "sha256")
    payload = ChaCha20Poly1305(hkdf(key, nonce, b"payload"))
    last = payload.encrypt(bytes(11) + b"\1", secret, None)
    return head + b" " + text(mac) + b"\n" + nonce + last


HIGHEST = 21
"""The work factor that a header may ask for: 2 GiB for some seconds. Not for fuzzing."""
_CHEAP = 12
_decrypt = pyrage.passphrase.decrypt


@_target(
    "locked", Closed, seeds=[locked(f"{BEN.secret}\n".encode(), PASSPHRASE, n) for n in (1, 6)]
)
def _locked(data: bytes) -> None:
    def decrypt(data: bytes, passphrase: str) -> bytes:
        stanzas = [line for line in data.split(b"\n---")[0].split(b"\n") if b"->" in line]
        asked = [int(word) for line in stanzas for word in line.split()[3:] if word.isdigit()]
        assert all(work <= HIGHEST for work in asked[:1])
        return bytes(_decrypt(data, passphrase)) if max(asked) <= _CHEAP else b""

    with mock.patch.object(pyrage.passphrase, "decrypt", decrypt):
        found = age.unlock(data, PASSPHRASE)
    assert found in {None, BEN}
    if found is None:
        raise Closed


# --- text -----------------------------------------------------------------------------------

RC = b"""version = 2
portable_names = false # why not

[repository]
id = "0123456789abcdef0123456789abcdef"
fingerprint = '1111111111111111111111111111111111111111111111111111111111111111'

[remotes.origin]
url = "s3://acme-vault/payments"
region = "eu-central-1"
single_writer = true
"""


@lru_cache
def _directory() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


@_target(
    ".dorkyrc",
    *(errors.BadConfig, errors.ConfigTooNew, errors.FormatTooOld),
    seeds=[RC, b'remotes = { b = { url = "x" } }\n'],
)
def _rc(data: bytes) -> None:
    path = _directory() / config.RC
    path.write_bytes(data)
    values = config.read(path, "project")
    for key, value in values.items():
        assert type(value) is config.describe(key).type
    made = config.Config(_directory(), environment={"HOME": str(_directory())})
    made.items()
    for remote in made.remotes():
        made.driver_options(remote)


@_target(".dorkyrc, changed", errors.BadConfig, seeds=[RC, b'remotes = { b = { url = "x" } }\n'])
def _changed_rc(data: bytes) -> None:
    path = _directory() / "changed"
    path.write_bytes(data)
    try:
        config.write(path, "remotes.origin.url", "x")
    except errors.DorkyError:
        assert path.read_bytes() == data
        raise
    with contextlib.suppress(errors.BadConfig, errors.ConfigTooNew, errors.FormatTooOld):
        assert config.read(path, "project")["remotes.origin.url"] == "x"


@_target(
    "environment", errors.DorkyError, seeds=[b"s3://acme-vault/payments", b"~/key", b"a b 'c d'"]
)
def _environment(data: bytes) -> None:
    text = os.fsdecode(data.replace(b"\0", b""))
    found = [setting for setting in config.SETTINGS.values() if setting.env]
    names = [setting.env for setting in found if setting.type is str]
    numbers = [setting.env for setting in found if setting.type is int]
    names += ["DORKY_URL", "DORKY_BUCKET", "DORKY_IDENTITY", "XDG_RUNTIME_DIR", "HOME"]
    made = config.Config(None, environment=dict.fromkeys(names, text))
    for key in config.SETTINGS:
        with contextlib.suppress(errors.UsageError):
            config.parse(key.replace("*", "origin"), text)
    assert made.memory is None or made.memory.is_dir()
    made.items()
    with contextlib.suppress(errors.UsageError):
        config.Config(None, environment=dict.fromkeys(numbers, text)).items()
    made.remotes()
    made.driver_options("origin")
    assert made.identity_path
    assert made.ssh_keys == []


_DOCUMENTS = {
    ".env": b"# note\nexport A='x y' # why\nB=\"l1\\nl2\"\nC=\n\nD = e#f\n",
    "a.json": json.dumps({"a": {"b": [1, True, None, {}]}, "\u00fc": "x"}, indent=2).encode(),
    "a.toml": b'# note\na.b = 1\n[t]\nx = [1.5, {y = 2026-01-01}]\n[[l]]\nz = """\nq"""\n',
    "a.yaml": b"# note\na: &x {b: 1, c: [d, ~]}\ne: *x\nf: |\n  g\n  h\n<<: *x\n'i': \"j\"\n",
}


def _document(name: str, seed: bytes) -> None:
    @_target(name, errors.BadDocument, seeds=[seed])
    def run(data: bytes) -> None:
        document = documents.parse(name, data)
        assert document.dump() == data
        found = document.items()
        for key, value in found.items():
            assert document.get(key) == value
        for key in [*list(found)[:2], "new", "a.b", "0"]:
            with contextlib.suppress(errors.UsageError, errors.NoSuchVariable):
                document.set(key, "it's $new")
                assert document.get(key) == "it's $new"
                document.unset(key)
        assert documents.parse(name, document.dump()).items() == document.items()


for _path, _seed in _DOCUMENTS.items():
    _document(_path, _seed)
