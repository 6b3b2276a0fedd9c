"""No lock-in: what docs/internals/format.md says is enough to get everything back without dorky."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from machines import Machine, files, flip
from servers import Remote
from teams import cloned

from dorky.format import codec, model, seal
from dorky.format.model import Kind
from dorky.keys.vault import OpenEpoch, Vault
from dorky.store import contents
from dorky.store.pack import is_whole

PAGE = (Path(__file__).parents[2] / "docs" / "internals" / "format.md").read_text("utf-8")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
(PROGRAM,) = (block for kind, block in FENCED.findall(PAGE) if kind == "python")
EXAMPLE = PAGE[PAGE.index("## A worked example") :]
IDENTITY, ROOT, PRINTED, OBJECTS, ROSTER = (block for _, block in FENCED.findall(EXAMPLE))

STAND_IN = """\
import getpass, sys
import pyrage
decrypt, option, path = sys.argv[1:]
assert (decrypt, option) == ("--decrypt", "-i")
text = open(path, "rb").read()
if text.startswith(b"age-encryption.org/v1\\n-> scrypt "):
    text = pyrage.passphrase.decrypt(text, getpass.getpass("Enter passphrase: "))
if b"PRIVATE KEY" in text:
    identities = [pyrage.ssh.Identity.from_buffer(text)]
else:
    lines = [each for each in text.decode().split("\\n") if each.startswith("AGE-SECRET-KEY-")]
    identities = [pyrage.x25519.Identity.from_str(each) for each in lines]
try:
    sys.stdout.buffer.write(pyrage.decrypt(sys.stdin.buffer.read(), identities))
except pyrage.DecryptError as error:
    sys.exit(f"age: error: {error}")
"""

# Gives the program a terminal of its own, which age asks for the passphrase by.
ON_A_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the stand-in be the program `age` on the path."""
    program = tmp_path / "bin" / "age"
    program.parent.mkdir()
    (program.parent / "age.py").write_text(STAND_IN)
    command = shlex.join([sys.executable, str(program.parent / "age.py")])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)


@pytest.fixture(params=["the program", "a stand-in"])
def age(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program `age`; and one over pyrage in its place, so that something always runs."""
    if request.param == "a stand-in":
        put_in_place(tmp_path, monkeypatch)
    elif shutil.which("age") is None:
        pytest.skip("age is not installed")


@pytest.fixture
def any_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program `age`, or what stands in for it."""
    if shutil.which("age") is None:
        put_in_place(tmp_path, monkeypatch)


@pytest.fixture
def rescue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's program, where it could not import dorky."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    place = tmp_path / "elsewhere"
    place.mkdir()
    program = place / "rescue.py"
    refuse = "import sys; sys.modules['dorky'] = sys.modules['pyrage'] = None\n"
    program.write_text(refuse + PROGRAM)
    return program


def run(rescue: Path, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, rescue, *map(str, arguments)],
        cwd=rescue.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_on_a_terminal(rescue: Path, typed: str, *arguments: object) -> None:
    """Run the program, and type something whenever a passphrase is asked for."""
    ours, theirs = os.openpty()
    with contextlib.closing(os.fdopen(ours, "r+b", buffering=0)) as terminal:
        with subprocess.Popen(
            [sys.executable, "-c", ON_A_TERMINAL, rescue, *map(str, arguments)],
            cwd=rescue.parent,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            said = asked = b""
            with contextlib.suppress(OSError):  # what Linux says at the end of a terminal
                while part := terminal.read(1024):
                    said += part
                    asked += part
                    if b"passphrase" in asked.lower() and asked.rstrip().endswith(b":"):
                        terminal.write(f"{typed}\n".encode())
                        asked = b""
        assert process.returncode == 0, said


def restored(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {path: held for path, held in files(directory).items() if path != ".gitignore"}


# --- the worked example ---------------------------------------------------------------------


@pytest.mark.usefixtures("age")
def test_the_example_opens(rescue: Path) -> None:
    bucket = rescue.parent / "example"
    bucket.mkdir()
    (bucket / "root").write_bytes(base64.b64decode(ROOT))
    (rescue.parent / "identity").write_text(IDENTITY)
    assert run(rescue, bucket, "restored", "identity") == PRINTED
    made = rescue.parent / "restored" / ".env"
    assert made.read_bytes() == b"TOKEN=abc123\n"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_what_the_example_says_of_its_keys_is_so() -> None:
    said = dict(re.findall(r"^\| ([^|]+) \| `?(\w+)`? \|$", EXAMPLE, re.MULTILINE))
    key = seal.EpochKey(bytes.fromhex(said["epoch key"]))
    assert said["commitment"] == key.commitment
    assert said["sealing key"] == seal.derive(key.key, "seal").hex()
    assert said["`id_key`"] == key.id_key.hex()
    assert said["gear seed"] == str(seal.gear_seed(key.id_key))
    mask = seal.derive(key.id_key, "mask")
    assert said["mask key"] == mask.hex()

    bodies = re.findall(r"^(chunk|tree|commit) (\w{64})\n(.*\n)", OBJECTS, re.MULTILINE)
    for kind, object_id, body in bodies:
        data = body if kind == "chunk" else body.rstrip("\n")
        assert seal.object_id(kind, data.encode(), key.id_key) == object_id
    assert len(bodies) == 3
    (digest,) = re.findall(r"has the digest\n`(\w{64})`", EXAMPLE)
    assert seal.mask(digest, bodies[0][1], mask) == hashlib.sha256(b"TOKEN=abc123\n").hexdigest()


def test_what_the_example_says_of_its_pack_is_so() -> None:
    pack, index = EXAMPLE.split("| offset | bytes | |\n")[1:]

    def joined(table: str) -> bytes:
        rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", table, re.MULTILINE)
        data = b""
        for offset, part in rows:
            assert int(offset) == len(data)
            data += bytes.fromhex(part)
        return data

    (name,) = re.findall(r"one pack of 482 bytes, named\n`(\w{64})`", EXAMPLE)
    data = joined(pack)
    assert len(data) == 482
    assert is_whole(name, [data], 312)
    said = dict(re.findall(r"^\| ([^|]+) \| `(\w{64})` \|$", EXAMPLE, re.MULTILINE))
    (repository,) = re.findall(rb'"repository":"(\w+)"', base64.b64decode(ROOT))
    key = seal.EpochKey(bytes.fromhex(said["epoch key"]))
    vault = Vault(repository.decode(), [OpenEpoch("all", 1, key)])
    assert codec.inflate(vault.open(data[312:430], "index"), limit=61) == joined(index)
    (chunk,) = re.findall(r"^chunk (\w{64})$", OBJECTS, re.MULTILINE)
    assert vault.read(Kind.CHUNK, chunk, data[8:312]) == b"TOKEN=abc123\n"


# --- a real repository ----------------------------------------------------------------------

PASSPHRASE = "four words or more"


@pytest.fixture
def ana(tmp_path: Path, file_url: Remote) -> Machine:
    """A team's repository: a large file that compresses and one that does not, and a link."""
    made = Machine(tmp_path / "ana", file_url.env)
    made("init", file_url.url, "--name", "ana")
    chance = random.Random(3)
    (made.project / "link").symlink_to("data/numbers.csv")
    made.write("run.sh", "#!/bin/sh\n", 0o755)
    made.commit(
        {
            ".env": "A=1\n",
            "empty": b"",
            "data/noise.bin": chance.randbytes(3_000_000),
            "data/numbers.csv": b"".join(b"%d,%d\n" % (n, n * n) for n in range(200_000)),
            "env/prod/api.env": "P=1\n",
            "env/prod/blob.bin": chance.randbytes(300_000),
            **{f"many/{n}": f"{n}\n" for n in range(700)},
        },
        "first",
    )
    made("stage", "link", "run.sh")
    made("commit", "-m", "second")
    made("push")
    return made


@pytest.mark.usefixtures("age")
def test_all_of_a_repository_comes_back(
    tmp_path: Path, ana: Machine, file_url: Remote, rescue: Path
) -> None:
    bucket = Path(file_url.url)
    before = restored(ana.project)
    old = ana("log", "--json").json[0]["id"]

    ben = cloned(ana, "ben")  # has an SSH key
    secret = Ed25519PrivateKey.generate()
    ssh = ben.home / "id"
    ssh.touch(0o600)
    ssh.write_bytes(
        secret.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    )
    public = secret.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    ana("team", "add", "ben", public.decode())

    ana("group", "add", "prod", "env/prod/**")
    # A pack in which nothing is current is left as it is by a rotation.
    ana.commit({"data/old.bin": random.Random(5).randbytes(300_000)})
    ana("push")
    (ana.project / "data" / "old.bin").unlink()
    ana("commit", "-a", "-m", "the old one goes")
    ana.commit({"data/noise.bin": random.Random(4).randbytes(2_000_000), ".env": "A=2\n"})
    ana("push")
    packs = set((bucket / "packs").iterdir())
    ana("rotate")
    now = set((bucket / "packs").iterdir())
    assert packs & now, "nothing is left of the first epoch"
    assert packs & now < now

    out = tmp_path / "out"
    said = run(rescue, bucket, out / "newest", ana.identity)
    assert restored(out / "newest") == restored(ana.project)
    (pinned,) = re.findall(r'fingerprint = "(\w{64})"', ana.read(".dorkyrc").decode())
    assert said.startswith(f"fingerprint {pinned}\n")

    run(rescue, bucket, out / "earlier", ana.identity, old[:10])
    assert restored(out / "earlier") == before

    said = run(rescue, bucket, out / "ben", ssh)
    assert "left out: files of the group prod" in said
    closed = {"env/prod/api.env", "env/prod/blob.bin"}
    assert restored(out / "ben") == {
        path: held for path, held in restored(ana.project).items() if path not in closed
    }


@pytest.mark.usefixtures("any_age")
def test_a_passphrase_suffices(
    tmp_path: Path, ana: Machine, file_url: Remote, rescue: Path
) -> None:
    ana.env["DORKY_PASSPHRASE"] = PASSPHRASE
    ana("team", "add", "paper", "passphrase")
    run_on_a_terminal(rescue, PASSPHRASE, file_url.url, tmp_path / "out")
    assert restored(tmp_path / "out") == restored(ana.project)


def test_a_plain_repository_needs_no_key(
    tmp_path: Path, file_url: Remote, rescue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "LISTED", 3)  # so that a file of some MB has a list of lists
    ana = Machine(tmp_path / "plain", file_url.env)
    ana("init", file_url.url, "--plain")
    large = random.Random(5).randbytes(8_000_000)
    ana.commit({".env": "A=1\n", "large": large} | {f"d/{n}": "x\n" for n in range(9000)})
    with ana.repo() as repo:
        (entry,) = repo.ls("HEAD", "large")
        assert model.decode_chunks(repo.store.read(entry.content), entry.content).lists
    ana("push")
    run(rescue, file_url.url, tmp_path / "out")
    assert restored(tmp_path / "out") == restored(ana.project)


def test_a_damaged_byte_is_noticed(
    tmp_path: Path, ana: Machine, file_url: Remote, rescue: Path
) -> None:
    root = Path(file_url.url) / "root"
    flip(root, root.stat().st_size // 2)
    with pytest.raises(AssertionError):
        run(rescue, file_url.url, tmp_path / "out", ana.identity)
    assert not (tmp_path / "out").exists()
