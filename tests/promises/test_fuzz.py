"""Bytes of any sort, and above all such that are nearly right, for everything that reads bytes.

`targets` says what may come out of each decoder. Here they are fed by hypothesis; with ``--deep``
by atheris, too, which looks for bytes that lead to code not run before:

    pip install atheris
    python3 dev.py test --deep tests/promises/test_fuzz.py  # FUZZ_SECONDS a target, else 20
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cramjam
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from servers import SUPPORT
from targets import BEN, BODIES, REPOSITORIES, TARGETS, Target

from dorky import errors
from dorky.keys import age

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)

# --- bytes that are nearly right ------------------------------------------------------------

DEEP = b"[" * 5000 + b"]" * 5000
JUNK = [
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"  ",
        b"\x1b[",
    ),
    *(
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-0",
        b"0.1",
        b"9" * 5000,
        b"18446744073709551616",
    ),
    *(
        b'"',
        b"'",
        b'"""',
        b"\\",
        b"\\ud800",
        b"\\u0000",
        b"{}",
        b"[]",
        b"[[",
        b"{",
        b":",
        b",",
        b"=",
    ),
    *(b"&a ", b"*a", b"<<: *x", b"- ", b"? ", b"!!x ", b"|", b"#", b"export ", b".", b"a." * 50),
    *(
        b'"format":3',
        b'"x":1',
        b"0x" + b"f" * 5000,
        b"\n[a]\n",
        b"../",
        b"-> scrypt AAAA 30\n",
        DEEP,
    ),
]
NUMBERS = [0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


@st.composite
def mutated(draw: st.DrawFn, target: Target) -> bytes:
    """Valid bytes with some changes: flipped, cut, inserted, repeated, overwritten, spliced."""
    data = bytearray(draw(st.sampled_from(target.seeds)))
    for _ in range(draw(st.integers(1, 4))):
        start, stop = sorted(draw(st.integers(0, len(data))) for _ in "12")
        near = min(stop, start + draw(st.integers(0, 8)))
        change = draw(st.integers(0, 7))
        if change == 0 and start < len(data):
            data[start] ^= draw(st.integers(1, 255))
        elif change == 1:
            del data[start:near]
        elif change == 2:
            data[start:near] = draw(st.sampled_from(JUNK))
        elif change == 3:
            data[start:near] = draw(st.binary(max_size=4))
        elif change == 4:  # a length, an offset
            number, size = draw(st.sampled_from(NUMBERS)), draw(st.sampled_from([1, 2, 4, 8]))
            data[start : start + size] = (number % (1 << 8 * size)).to_bytes(size, "big")
        elif change == 5:
            data[start:start] = data[start:stop] * draw(st.integers(1, 3))
        elif change == 6:
            data[start:] = draw(st.sampled_from(target.seeds))[stop:]
        else:
            del data[stop:]
    return bytes(data)


class Raw(bytes):
    """What is put into JSON as it is."""


hostile = st.one_of(
    st.sampled_from(JUNK).map(Raw),
    st.integers(),
    st.sampled_from([-1, 1 << 31, 1 << 63, 1 << 64, 10**400]),
    st.text(max_size=5),
    st.sampled_from([None, True, "", "..", "a/b", ".git", "\0", "x" * 10_000, "é", "all"]),
)


def rendered(value: Any) -> bytes:
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, list):
        return b"[" + b",".join(map(rendered, value)) + b"]"
    if isinstance(value, Pairs):
        return b"{" + b",".join(rendered(k) + b":" + rendered(v) for k, v in value.items) + b"}"
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


class Pairs:
    """A mapping that may have a key twice."""

    def __init__(self, items: list[tuple[Any, Any]]) -> None:
        self.items = items


def places(value: Any) -> Iterator[Any]:
    if isinstance(value, list | Pairs):
        yield value
        for each in value if isinstance(value, list) else [v for _, v in value.items]:
            yield from places(each)


@st.composite
def miswritten(draw: st.DrawFn, target: Target) -> bytes:
    """Valid JSON in which values are others, missing, twice, or moved."""
    root = json.loads(draw(st.sampled_from(target.seeds)), object_pairs_hook=Pairs)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(list(places(root))))
        held = place if isinstance(place, list) else place.items
        at = draw(st.integers(0, max(0, len(held) - 1)))
        value = draw(hostile)
        change = draw(st.integers(0, 4))
        if not held or change == 0:
            held.insert(at, value if isinstance(place, list) else ("later", value))
        elif change == 1:
            held[at] = value if isinstance(place, list) else (held[at][0], value)
        elif change == 2:
            held.append(held[at])
        elif change == 3:
            del held[at]
        elif isinstance(place, list):
            held.reverse()
        else:
            held[at] = (draw(hostile), held[at][1])
    return rendered(root)


def is_json(target: Target) -> bool:
    """Tell whether every seed is JSON (ciphertext may begin with a brace by chance)."""
    try:
        return all(isinstance(json.loads(seed), dict | list) for seed in target.seeds)
    except ValueError:
        return False


def near(target: Target) -> st.SearchStrategy[bytes]:
    wild = st.binary(max_size=200)
    if is_json(target):
        return st.one_of(mutated(target), miswritten(target), miswritten(target), wild)
    return st.one_of(mutated(target), mutated(target), wild)


@every_target
def test_what_is_right_is_taken(target: Target) -> None:
    """Else nothing of the rest would tell anything."""
    assert all(target.takes(seed) for seed in target.seeds)


@every_target
def test_bytes_that_are_nearly_right(target: Target) -> None:
    @settings(
        max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @example(b"")
    @example(DEEP)
    @given(near(target))
    def feed(data: bytes) -> None:
        target.takes(data)

    feed()


# --- work and memory ------------------------------------------------------------------------

MiB = 1 << 20


def chained(count: int) -> bytes:
    """Each as deep as is allowed, and what is below it by an alias."""
    lines = [b"k0: &a0 " + b"[" * 90 + b"x" + b"]" * 90]
    for n in range(1, count):
        lines.append(b"k%d: &a%d " % (n, n) + b"[" * 90 + b"*a%d" % (n - 1) + b"]" * 90)
    return b"\n".join(lines)


def widened(levels: int) -> bytes:
    """Ten long keys at each level: as many values as are allowed, with terabytes of keys."""
    key = b"k" * 1000
    lines = [b"l0: &a0 {" + b", ".join(key + b"%d: x" % n for n in range(10)) + b"}"]
    for level in range(1, levels):
        inner = b", ".join(key + b"%d: *a%d" % (n, level - 1) for n in range(10))
        lines.append(b"l%d: &a%d {" % (level, level) + inner + b"}")
    return b"\n".join(lines)


def doubled(levels: int) -> bytes:
    """A billion laughs."""
    lines = [b"a0: &a0 [x, x]"]
    lines += [b"a%d: &a%d [*a%d, *a%d]" % (n, n, n - 1, n - 1) for n in range(1, levels)]
    return b"\n".join(lines)


def zeros(size: int) -> bytes:
    """A zstd frame of nothing but zeros, as it is stored, that states as many as it has."""
    packed = bytes(cramjam.zstd.compress(bytes(size), level=19))
    return b"\1" + size.to_bytes(4, "big") + len(packed).to_bytes(4, "big") + packed


KINDS = [kind.value for kind in BODIES]
END = b"A" * 43 + b"\n" + bytes(100)
HEADER = b'{"format":2,"repository":"%s","epochs":[' % (b"a" * 32)


def bombs_by_target() -> dict[str, list[bytes]]:
    """Hundreds of megabytes, so they are made where they are used."""
    return {
        **{f"{name} {kind}, inside": [zeros(96 * MiB)] for name in REPOSITORIES for kind in KINDS},
        "compressed": [zeros(96 * MiB), b"\1\xff\xff\xff\xff" + zeros(MiB)[5:]],
        "sealed root body": [b" " * 96 * MiB],
        "plain root body": [b" " * 96 * MiB, b'{"recent":' + b"[" * 12 * MiB],
        "plain index": [bytes(96 * MiB)],
        "sealed index": [bytes(96 * MiB)],
        "header": [HEADER + b"[" * 900_000, HEADER + b"{}," * 300_000, HEADER + b"1" * 900_000],
        "tree": [b'{"entries":' + b"[" * 16 * MiB, b'{"entries":[' + b'{"name":' * MiB],
        "request": [b'{"name":' + b"[" * MiB],
        "wrapped": [
            b"age-encryption.org/v1\n" + b"-> x y\n\n" * 80_000 + b"--- " + END,
            b"age-encryption.org/v1\n" + b"-> x y\n\n" * 80_000,
        ],
        "locked": [
            b"age-encryption.org/v1\n-> scrypt x 6\nA\n" + b"-> x y\n\n" * 80_000 + b"--- " + END,
            *(
                b"age-encryption.org/v1\n-> scrypt %s %s\n%s\n--- %s"
                % (b"A" * 22, n, b"A" * 43, END)
                for n in (b"22", b"30", b"63", b"99", b"064", b"1000", b"9" * 5000, b"18 22", b"-1")
            ),
        ],
        ".dorkyrc": [
            *(
                b"a." * 400_000 + b"a=1",
                b"[" + b"a." * 400_000 + b"a]",
                b'"\xc2\x85".' * 200_000 + b"a=1",
            ),
            *(b"version = 0x" + b"f" * 9000, b"version = " + b"9" * 9000, b"a = " + b"[" * MiB),
            *(b"portable_names = [0x" + b"f" * 9000 + b"]", b"x" * 8 * MiB, b"[a]\n" * 200_000),
            b"portable_names = " + b"[" * 300 + b"]" * 300,
        ],
        ".env": [b"A=x" + b" " * MiB + b"y", b"A='" + b"\\'" * MiB, b"\n" * MiB + b"x", b"=" * MiB],
        "a.json": [b"[" * MiB, b'{"a":' * MiB, b"[" + b"9" * MiB + b"]", b'["' + b"\\" * MiB],
        "a.toml": [
            *(b"a." * MiB + b"a=1", b"[" + b"a." * MiB + b"]", b"a=" + b"[" * MiB),
            *(b"a=0x" + b"f" * MiB, b'a="""' + b'""' * MiB, b"a=" + b"{a=" * MiB),
        ],
        "a.yaml": [
            *(chained(3), chained(40), widened(6), widened(20), doubled(60)),
            *(b"[" * MiB, b"- " * MiB, b"? " * MiB, b"{a: " * MiB, b"!" * MiB, b"&a " * MiB),
        ],
    }


SECONDS, ROOM = 5, 600 * MiB


def bombs() -> None:
    """Feed them all, in a process whose memory is limited."""
    made = bombs_by_target()
    for name in made:  # what is loaded when it is needed
        for seed in TARGETS[name].seeds:
            TARGETS[name].takes(seed)
    for name, several in made.items():
        for bomb in several:
            with Path("/proc/self/statm").open() as file:
                held = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, resource.RLIM_INFINITY))
            start = time.process_time()
            taken = TARGETS[name].takes(bomb)
            took = time.process_time() - start
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
            sys.stderr.write(f"{name}: {bomb[:24]!r} {taken=} {took:.2f} s\n")
            assert took < SECONDS


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory through /proc")
def test_bombs_cost_little_time_and_memory() -> None:
    """Those of a few bytes that would unfold, and those on which a parser would work for hours."""
    run = "import test_fuzz; test_fuzz.bombs()"
    done = subprocess.run(
        [sys.executable, "-c", run],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        timeout=300,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_key_is_not_sealed_to_more_people_than_can_open_it() -> None:
    assert age.wrap(bytes(32), [BEN.public] * 250)
    with pytest.raises(errors.UsageError, match="more than"):
        age.wrap(bytes(32), [BEN.public] * 700)


# --- for long -------------------------------------------------------------------------------


@pytest.mark.deep
@every_target
def test_bytes_that_are_nearly_right_for_long(target: Target) -> None:
    @settings(
        max_examples=2000, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(near(target))
    def feed(data: bytes) -> None:
        target.takes(data)

    feed()


FUZZ = """
import pathlib
import sys

import atheris

with atheris.instrument_imports(include=["dorky"]):
    import targets

target = targets.TARGETS[sys.argv.pop(1)]
for n, seed in enumerate(target.seeds):  # of this process: its keys are random
    pathlib.Path(sys.argv[-1], str(n)).write_bytes(seed)
atheris.Setup(sys.argv, lambda data: target.takes(data) and None)
atheris.Fuzz()
"""


@pytest.mark.deep
@every_target
def test_bytes_that_lead_to_other_code(target: Target, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="pip install atheris")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    words = tmp_path / "words"
    quoted = ("".join(f"\\x{byte:02x}" for byte in junk) for junk in JUNK if 0 < len(junk) < 64)
    words.write_text("".join(f'"{word}"\n' for word in quoted))
    (name,) = (name for name, each in TARGETS.items() if each is target)
    seconds = os.environ.get("FUZZ_SECONDS", "20")
    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", f"-dict={words}"]
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, name, *limits, f"-artifact_prefix={tmp_path}/", str(corpus)],
        cwd=SUPPORT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-4000:]
