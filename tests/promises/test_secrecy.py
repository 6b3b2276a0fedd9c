"""Who only reads the bucket of a sealed repository learns sizes, counts and times, nothing else."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from machines import Machine, bucket, files
from servers import Remote

PIN = "4711"
VALUE = "hunter2-canary-value"
FILES: Mapping[str, bytes] = {
    "canary-directory/canary-name.env": f"API_KEY={VALUE}\nPIN={PIN}\n".encode(),
    "pin": PIN.encode(),
    "value": VALUE.encode(),
    # Incompressible and large, so that it lands in a pack, in several chunks.
    "canary-large.bin": (VALUE.encode() + random.Random(1).randbytes(500_000)) * 4,
    "empty-canary": b"",
}
AUTHOR, MESSAGE, TARGET = "Canary Author", "canary message: rotate the keys", "canary/link/target"


def disguises(secret: bytes) -> Iterable[bytes]:
    """A secret as it is and as it may be encoded."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).rstrip(b"=")


def digests(secret: bytes) -> Iterable[bytes]:
    """What tells a short secret to who can guess: its plain hashes, in every encoding."""
    for name in ("md5", "sha1", "sha256"):
        yield from disguises(hashlib.new(name, secret).digest())
    for kind in (b"chunk\0", b"chunks\0"):  # as ids are in a plain repository
        yield from disguises(hashlib.sha256(kind + secret).digest())


def needles(*, paths: bool = True) -> set[bytes]:
    """Everything that must not be found."""
    found: set[bytes] = set()
    for text in (VALUE, AUTHOR, MESSAGE, TARGET, *(FILES if paths else ())):
        found.update(disguises(text.encode()))
    if paths:
        found.update({b"canary", b"Canary", b"CANARY"})
        for path in FILES:
            found.update(digests(path.encode()))
    for content in (*FILES.values(), TARGET.encode()):
        if content:
            found.update(digests(content))
            found.update(digests(content.strip()))
        for line in content.splitlines() if len(content) < 1000 else ():
            found.update(digests(line))
            found.update(digests(line.partition(b"=")[2] or line))
    return {needle for needle in found if len(needle) > 4}


def leaks(held: Mapping[str, bytes], wanted: Iterable[bytes]) -> list[tuple[str, bytes]]:
    everything = {**held, "the names": "\n".join(held).encode()}
    return [(key, each) for each in wanted for key, data in everything.items() if each in data]


def all_bytes(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def work(machine: Machine, remote: Remote, *options: str) -> str:
    """The main job with canaries everywhere; gives all that was printed on the way."""
    said = [machine("config", "set", "--user", "user.name", AUTHOR)]
    said.append(machine("init", remote.url, *options))
    for path, content in FILES.items():
        machine.write(path, content)
    (machine.project / "link").symlink_to(TARGET)
    said.append(machine("stage", "."))
    said.append(machine("commit", "-m", MESSAGE))
    said.append(machine("push"))
    machine.write("pin", f"{PIN}\n")
    machine.write("canary-name-2", VALUE)
    said.append(machine("status"))
    said.append(machine("stage", "."))
    said.append(machine("commit", "-m", f"{MESSAGE} again"))
    said.append(machine("push"))
    said.append(machine("log"))
    said.append(machine("show"))
    said.append(machine("ls", "-l") if not options else machine("ls"))
    return "\n".join(each.out + each.err for each in said)


def test_the_search_finds_what_is_there() -> None:
    for needle in needles():
        assert leaks({"key": b"..." + needle + b"..."}, [needle])
    assert leaks({"canary-name": b""}, [b"canary"])
    assert hashlib.sha256(PIN.encode()).hexdigest().encode() in needles(paths=False)
    assert hashlib.md5(VALUE.encode()).digest() in needles(paths=False)


def test_a_plain_repository_is_open_to_its_readers(tmp_path: Path, file_url: Remote) -> None:
    """The same search, where it must find something."""
    ana = Machine(tmp_path / "ana", {})
    work(ana, file_url, "--plain")
    found = leaks(bucket(file_url), needles())
    assert VALUE.encode() in {needle for _, needle in found}


def test_nothing_of_it_is_in_the_bucket(tmp_path: Path, remote: Remote) -> None:
    ana = Machine(tmp_path / "ana", remote.env)
    said = work(ana, remote)
    held = bucket(remote)
    assert any(key.startswith("packs/") for key in held)
    assert leaks(held, needles()) == []
    # No value is ever printed, though names and messages are.
    assert VALUE not in said
    assert MESSAGE in said
    ben = ana.another("ben")
    ben("clone", remote.url, "here")
    assert files(ben.project / "here") == ana.files()


def test_nothing_but_paths_lies_about_here(tmp_path: Path, file_url: Remote) -> None:
    """The local state is not sealed, but it holds no value, no message and no hash of them."""
    ana = Machine(tmp_path / "ana", {})
    work(ana, file_url)
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    ben("cat", "HEAD~1:pin")
    ben.write("pin", VALUE)
    ben("status")
    ana.commit({"pin": "1"})
    ana("push")
    ben("pull", "--force")
    for machine in (ana, ben):
        with machine.repo() as repo:
            # Open, so that what is in the write-ahead log is looked at, too.
            assert repo.status()
            held = all_bytes(machine.state)
            assert "dorky.db" in held
        held |= all_bytes(machine.state)
        assert leaks(held, needles(paths=False)) == []
        sealed = {key: data for key, data in held.items() if not key.startswith("dorky.db")}
        assert leaks(sealed, needles()) == []
        assert leaks({".dorkyrc": machine.read(".dorkyrc")}, needles()) == []


def test_the_secret_key_is_nowhere_but_in_its_file(tmp_path: Path, remote: Remote) -> None:
    ana = Machine(tmp_path / "ana", remote.env)
    said = work(ana, remote)
    lines = ana.identity.read_text().splitlines()
    (secret,) = (line for line in lines if line.startswith("AGE-SECRET-KEY-1"))
    with ana.repo() as repo:
        key = next(iter(repo.vault._current.values())).key
        secrets = {secret, secret.lower(), *(each.hex() for each in (key.key, key.id_key))}
    wanted = {each for text in secrets for each in disguises(text.encode())}
    wanted |= {each for raw in (key.key, key.id_key) for each in disguises(raw)}
    everything = {**bucket(remote), **all_bytes(ana.project), "said": said.encode()}
    assert leaks(everything, wanted) == []


def test_what_went_wrong_does_not_tell_it_either(
    tmp_path: Path, file_url: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even with tracebacks."""
    ana = Machine(tmp_path / "ana", {})
    work(ana, file_url)
    ben = ana.another("ben")
    ben("clone", file_url.url, ".")
    ana.commit({"value": f"{VALUE}-2"})
    ana("push")
    ben.write("value", f"{VALUE}-3")
    said = [ben("pull", code=5), ben("status")]
    ben.commit({"value": f"{VALUE}-3"})
    said += [ben("push", code=5), ben("pull", code=5), ben("cat", "HEAD:nothing", code=4)]
    (ben.identity).write_text("AGE-SECRET-KEY-1CANARY\n")
    said += [ben("log", code=6)]
    for each in said:
        assert VALUE not in each.err + each.out
        assert "KEY-1CANARY" not in each.err
