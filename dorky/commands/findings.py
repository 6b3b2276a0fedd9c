"""Findings: what the checks of `fsck` share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from dorky import errors
from dorky.format.model import Location
from dorky.keys.vault import Vault
from dorky.project import Project
from dorky.redaction import redacted
from dorky.results import Dangling, Finding, Remedy
from dorky.store import verify
from dorky.store.pack import Check

Part = tuple[int, int]
"""A part of all packs: the n-th of t parts."""

REBUILD = Remedy("repair")
BACKUP = "only another clone, a backup or the bucket's versions can have it"
SHOWN = 3
"""The number of ids that a finding names."""


class Scope:
    """What to check, and how much has been checked so far."""

    def __init__(self, project: Project, part: Part | None) -> None:
        self.project = project
        self.part = part
        self.packs = self.objects = self.bytes_read = self.unlisted = self.unlisted_size = 0
        self.dangling: tuple[Dangling, ...] = ()

    def start(self, label: str, sizes: Mapping[str, int]) -> None:
        """Begin to check packs, some of which may be read whole."""
        whole = sum(size for name, size in sizes.items() if self.reads(name))
        if self.part:
            self.project.progress.start(label, whole, "B")
        else:
            self.project.progress.start(label, len(sizes), "packs")

    def reads(self, name: str) -> bool:
        """Return whether to read a pack whole."""
        return self.part is not None and verify.in_part(name, self.part)

    def passing(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield blocks unchanged, and count the bytes."""
        for block in blocks:
            yield block
            self.bytes_read += len(block)
            self.project.progress.advance(len(block))


def finding(
    code: str, subject: object, about: str, remedy: Remedy | str = "", *, fatal: bool = True
) -> Finding:
    """Return a finding, without the secrets that its texts may name."""
    subject, about = redacted(str(subject)), redacted(about)
    return Finding(code=code, subject=subject, about=about, remedy=remedy, fatal=fatal)


def failure(error: errors.DorkyError, subject: object, remedy: Remedy | str = "") -> Finding:
    """Return the finding that reports an error with its own message."""
    return finding(error.code, subject, error.message, remedy or Remedy(error.code, error=error))


def check_bytes(
    scope: Scope,
    name: str,
    blocks: Iterable[bytes],
    locations: Sequence[Location],
    vault: Vault | None,
    remedy: Remedy | str,
    *,
    tail: int,
    epochs: int | None = None,
) -> Iterator[Finding]:
    """Read a pack whole: its name must match its bytes, and each id its object."""
    check = Check(tail)
    bad = []
    for scrubbed in verify.scrub(scope.passing(blocks), locations, vault, check.update, epochs):
        scope.objects += 1
        if scrubbed.error:
            bad.append(scrubbed.at.id[:12])
    about = []
    if not check.passes(name):
        about.append("its bytes have another hash")
    if bad:
        more = ", …" if len(bad) > SHOWN else ""
        shown = ", ".join(bad[:SHOWN]) + more
        about.append(f"{len(bad)} of its {len(locations)} objects damaged: {shown}")
    if about:
        yield finding("corrupt-pack", name, "; ".join(about), remedy)
