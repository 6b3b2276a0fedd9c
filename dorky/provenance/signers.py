"""Signers files: whose signatures count.

Source: ssh-keygen(1), ALLOWED SIGNERS. Each line has names, perhaps options, and a public key. Of
the options, ``namespaces``, ``valid-after`` and ``valid-before`` are known; ``cert-authority`` is
refused, because certificates are not verified. Times must be in UTC (``20270131Z``): OpenSSH takes
others as local ones, so that one file would mean different things on two machines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import NamedTuple

from dorky import errors
from dorky.format import model
from dorky.keys.sshsig import Namespace
from dorky.provenance import public_keys
from dorky.provenance.public_keys import PublicKey

NAMESPACE = Namespace.ARTIFACT.value
LIMIT = 1 << 20
"""The largest signers file in bytes."""

_LINE = re.compile(r'(?P<names>"[^"]+"|[^\s"]+)\s+(?:(?P<options>(?:[^\s"]|"[^"]*")+)\s+)??'
                   r"(?P<kind>[a-z0-9@.-]+)\s+(?P<key>[A-Za-z0-9+/=]+)(?:\s.*)?")  # fmt: skip
_OPTION = re.compile(r'([A-Za-z-]+)(?:="([^"]*)")?(?:,|\Z)')
_TIME = re.compile(r"(\d{8}|\d{12}|\d{14})Z")
_FOREIGN = re.compile(r"ssh-dss|sk-[a-z0-9-]+@openssh\.com|ecdsa-sha2-nistp521")


class Signer(NamedTuple):
    """Somebody whose signatures count.

    Attributes:
        names: Names, which may hold ``*`` and ``?``, or begin with ``!`` to except some.
        key: The key.
        namespaces: The purposes for which the key counts, as such patterns; empty for all.
        after: The first moment at which it counts; None if always.
        before: The last one.
    """

    names: tuple[str, ...]
    key: PublicKey
    namespaces: tuple[str, ...] = ()
    after: datetime | None = None
    before: datetime | None = None

    def problem(self, time: datetime) -> str:
        """Return why the key does not count at a time; empty if it does."""
        if self.namespaces and not matches(NAMESPACE, self.namespaces):
            return f"its key does not count for the namespace {NAMESPACE}"
        if self.after and time < self.after:
            return "its key was not valid yet"
        if self.before and time > self.before:
            return "its key was not valid any more"
        return ""


def parse(text: str, source: str) -> list[Signer]:
    """Read a signers file.

    Keys of types that never verify (those in hardware, say) are left out.

    Raises:
        BadSigners: A line is malformed.
    """
    if len(text) > LIMIT:
        raise errors.BadSigners(source, f"it is larger than {LIMIT >> 20} MiB")
    found: list[Signer] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            found += _signers(line)
        except ValueError as error:
            raise errors.BadSigners(source, f"in line {number}, {error}") from None
    return found


def line(name: str, key: PublicKey) -> str:
    """Return the line of a signers file by which a key counts for artifacts.

    Raises:
        BadName: The name is not one word.
    """
    check_name(name)
    return f'{name} namespaces="{NAMESPACE}" {key.line}'


def check_name(name: str) -> None:
    """Refuse a name of a signer that is not one word.

    Raises:
        BadName: It is not.
    """
    if not re.fullmatch(model.NAME, name):
        raise errors.BadName("signer", ascii(name))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a name is among those that patterns describe (ssh_config(5), PATTERNS)."""

    def fits(pattern: str) -> bool:
        return fnmatchcase(name, pattern.replace("[", "[[]"))

    if any(fits(pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(fits(pattern) for pattern in patterns if not pattern.startswith("!"))


def _signers(line: str) -> Iterator[Signer]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("names and a public key are expected")
    names = tuple(found["names"].strip('"').split(","))
    if not all(name.removeprefix("!") for name in names):
        raise ValueError("a name is empty")
    options = dict(_options(found["options"] or ""))
    after, before = (_time(options.get(f"valid-{side}")) for side in ("after", "before"))
    namespaces = tuple(filter(None, options.get("namespaces", "").split(",")))
    if "namespaces" in options and not namespaces:
        raise ValueError("its namespaces are empty")
    if _FOREIGN.fullmatch(found["kind"]):
        return
    key = public_keys.parse(f"{found['kind']} {found['key']}")
    yield Signer(names, key, namespaces, after, before)


def _options(text: str) -> Iterator[tuple[str, str]]:
    at, seen = 0, set()
    while at < len(text):
        found = _OPTION.match(text, at)
        name = found[1].lower() if found else ""
        if found is None or name in seen:
            raise ValueError("its options are malformed")
        if name == "cert-authority":
            raise ValueError("it names a certificate authority: dorky verifies plain keys alone")
        if name not in {"namespaces", "valid-after", "valid-before"} or found[2] is None:
            raise ValueError(f"the option {found[1]!a} is unknown")
        seen.add(name)
        yield name, found[2]
        at = found.end()


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    if not (found := _TIME.fullmatch(text)):
        raise ValueError("a time has to be in UTC, as in 20270131Z or 202701312359Z")
    try:
        moment = datetime.strptime(found[1].ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        raise ValueError("a time does not exist") from None
    return moment.replace(tzinfo=timezone.utc)
