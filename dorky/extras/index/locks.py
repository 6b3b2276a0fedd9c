"""Lock files (`pylock.toml`), and the resolver that writes them: uv."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from dorky import errors
from dorky.extras.index.names import normalized, parsed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# A resolver that hangs must not hang an onboarding script: a large one takes a minute.
_PATIENCE = 1800
_HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})\b")
# What uv says around its reason.
_UNSOLVED = re.compile(
    r"No solution found when resolving dependencies(?: for [^:]*)?: "
    r"|,? we can conclude that your requirements are unsatisfiable\.?"
)
_MANYLINUX = re.compile(r"(manylinux(?:_\d+_\d+|1|2010|2014))_(x86_64|aarch64)")
_PLATFORMS = {
    r"win_amd64": "x86_64-pc-windows-msvc",
    r"win_arm64": "aarch64-pc-windows-msvc",
    r"macosx_\d+_\d+_arm64": "aarch64-apple-darwin",
    r"macosx_\d+_\d+_x86_64": "x86_64-apple-darwin",
    r"musllinux_\d+_\d+_x86_64": "x86_64-unknown-linux-musl",
    r"musllinux_\d+_\d+_aarch64": "aarch64-unknown-linux-musl",
    r"linux_x86_64": "x86_64-unknown-linux-gnu",
    r"linux_aarch64": "aarch64-unknown-linux-gnu",
}
"""The platforms of wheels, as the resolver calls them."""
_KINDS = {"vcs": "a repository", "directory": "a directory", "archive": "a URL"}
_FORMS = {
    "python-version": "no version of Python: write 3.12",
    "python-platform": (
        "no platform: write manylinux_2_28_x86_64, macosx_14_0_arm64, win_amd64, or another one as"
        " wheels name it"
    ),
    "exclude-newer": "no date: write 2026-01-31, or a time with its zone",
}
"""How the values of options are written, by the resolver's names for the options."""


class Locked(NamedTuple):
    """A file that a lock names.

    Attributes:
        filename: Its name.
        url: Where it lies.
        sha256: Its SHA-256, in hex.
        size: Its size in bytes; None if the lock does not say.
        upload_time: When it was uploaded; None if the lock does not say.
        origin: The index that it is of; empty if the lock does not say.
    """

    filename: str
    url: str
    sha256: str
    size: int | None
    upload_time: datetime | None
    origin: str


class Wanted(NamedTuple):
    """What a resolver is to find files for.

    Attributes:
        requirements: The requirements.
        files: Files of requirements.
        constraints: Files of constraints.
        python_versions: The versions of Python; none: that of the environment.
        platforms: The platforms; none: this one.
        sdists: Whether source distributions are wanted, too.
        dependencies: Whether what they depend on is wanted, too.
        index_url: The index; empty: what the environment says.
        uploaded_prior_to: Only files that were uploaded before this; empty: all.
    """

    requirements: Sequence[str] = ()
    files: Sequence[Path] = ()
    constraints: Sequence[Path] = ()
    python_versions: Sequence[str] = ()
    platforms: Sequence[str] = ()
    sdists: bool = False
    dependencies: bool = True
    index_url: str = ""
    uploaded_prior_to: str = ""


def resolved(wanted: Wanted) -> list[Locked]:
    """Resolve requirements for every target; return all files that installers need there.

    Raises:
        BadRequirement: A requirement is none, or names no package of an index.
        NoSolution: There is no solution.
        ExtraMissing: uv is not installed.
    """
    found: list[Locked] = []
    for version in wanted.python_versions or [""]:
        for platform in wanted.platforms or [""]:
            found += _resolved(wanted, version, platform)
    return merged(found)


def _resolved(wanted: Wanted, version: str, platform: str) -> list[Locked]:
    words = [_uv(), "pip", "compile", "--format", "pylock.toml", "--no-header", "--quiet"]
    words += [] if wanted.sdists else ["--only-binary", ":all:"]
    words += [] if wanted.dependencies else ["--no-deps"]
    if version:
        # Looking for that very Python takes long, and only building a source needs one.
        words += ["--python-version", version, "--python", sys.executable]
    words += ["--python-platform", platform_name(platform)] if platform else []
    words += ["--exclude-newer", wanted.uploaded_prior_to] if wanted.uploaded_prior_to else []
    for path in wanted.constraints:
        words += ["--constraint", str(path)]
    with tempfile.TemporaryDirectory() as directory:
        lock = Path(directory) / "pylock.toml"
        words += ["--output-file", str(lock), *map(str, wanted.files)]
        words += ["-"] if wanted.requirements else []
        done = subprocess.run(
            words,
            input="".join(f"{line}\n" for line in wanted.requirements),
            env=_environment(wanted.index_url),
            text=True,
            capture_output=True,
            check=False,
            timeout=_PATIENCE,
        )
        if done.returncode:
            target = " ".join(filter(None, (version and f"Python {version}", platform)))
            raise _failure(target or "this environment", done.stderr)
        try:
            return read(lock, sdists=wanted.sdists)
        except errors.BadLock as error:  # the lock is ours: only a requirement can be wrong
            raise errors.BadRequirement(error.args[1]) from None


def _environment(index_url: str) -> dict[str, str]:
    # uv trusts the certificates that fetching the files trusts: those of the system.
    usual = {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true"}
    # An index's password belongs in no command line, which every user of the machine can read.
    named = {"UV_DEFAULT_INDEX": index_url} if index_url else {}
    fixed = {"UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
    # What opens repositories, or uploads to an index, is nothing for a resolver.
    own = ("DORKY_", "DEPOT_")
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**usual, **theirs, **fixed, **named}


def _failure(target: str, said: str) -> errors.DorkyError:
    """Return the error that uv's words stand for."""
    why = _told(said)
    if found := re.search(r"invalid value '(.*?)' for '--([a-z-]+)", said):
        return errors.UsageError(f"{found[1]} is {_FORMS.get(found[2], f'no {found[2]}')}")
    if found := re.search(r"\b(?:401 Unauthorized|403 Forbidden)\b", said):
        return errors.AccessDenied("the index", found[0], to="index")
    if "error sending request" in why or "HTTP status server error" in why:
        return errors.Unreachable("the index", why)
    if not _UNSOLVED.search(why):
        return errors.BadRequirement(why)
    if found := re.search(
        r"(?:versions of )?([\w.-]+)\S* has no usable wheels|for `(.*?)` because building", said
    ):
        return errors.OnlySources(target, found[1] or found[2])
    return errors.NoSolution(target, _UNSOLVED.sub("", why).replace("Because ", "because ", 1))


def _told(said: str) -> str:
    """Return what uv says, as one line, without what it says of its own options."""
    lines = [line.strip() for line in said.splitlines() if not line.startswith("warning:")]
    told = " ".join(itertools.takewhile(lambda line: not line.startswith("hint:"), lines))
    told = told.removeprefix("error: ").replace(" cause: ", ": ").strip()
    if found := re.search(r"hint: (Wheels are available.*)", said):
        told += f" ({found[1].strip()})"
    return told or "uv failed"


def _uv() -> str:
    try:
        from uv import find_uv_bin

        return os.fsdecode(find_uv_bin())
    except (ImportError, FileNotFoundError):
        # A relative entry of $PATH may lead to a program that came with the project.
        places = os.environ.get("PATH", os.defpath).split(os.pathsep)
        path = os.pathsep.join(place for place in places if place.startswith("/"))
        if found := shutil.which("uv", path=path):
            return found
        raise errors.ExtraMissing("the program uv") from None


def platform_name(platform: str) -> str:
    """Return what the resolver calls a platform that may be named as wheels do."""
    if found := _MANYLINUX.fullmatch(platform):
        return f"{found[2]}-{found[1]}"
    names = (name for pattern, name in _PLATFORMS.items() if re.fullmatch(pattern, platform))
    return next(names, platform)


def merged(found: Sequence[Locked]) -> list[Locked]:
    """Return each file once, sorted.

    Raises:
        BadPackage: Two have one name, and other hashes.
    """
    files: dict[str, Locked] = {}
    for locked in found:
        known = files.setdefault(locked.filename, locked)
        if known.sha256 != locked.sha256:
            raise errors.BadPackage(locked.filename, "two indexes have other files of that name")
    return sorted(files.values())


def read(path: Path, *, sdists: bool) -> list[Locked]:
    """Return the files that a lock names.

    Args:
        path: A `pylock.toml` (PEP 751).
        sdists: Whether source distributions are wanted, too.

    Raises:
        BadLock: It is damaged, or names something that no index has, such as a directory.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        if not str(document["lock-version"]).startswith("1."):
            raise errors.BadLock(str(path), f"its version is {document['lock-version']}")
        found = [
            locked
            for package in document.get("packages", [])
            for locked in _of_package(package, str(path), sdists=sdists)
        ]
    except OSError as error:
        raise errors.UnreadableFile(str(path), error.strerror) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.BadLock(str(path), f"{type(error).__name__}: {error}") from None
    return merged(found)


def _of_package(package: Mapping[str, Any], path: str, *, sdists: bool) -> list[Locked]:
    name = str(package["name"])
    for kind, words in _KINDS.items():
        if kind in package:
            raise errors.BadLock(path, f"{name} is no package of an index, but {words}")
    files = [*package.get("wheels", [])]
    if sdists and "sdist" in package:
        files.append(package["sdist"])
    if not files:
        raise errors.BadLock(path, f"{name} has no wheel: only an sdist, which runs code if built")
    if any("url" not in file for file in files):
        raise errors.BadLock(path, f"{name} lies in a directory: name the file itself")
    return [_locked(file, name, str(package.get("index", ""))) for file in files]


def _locked(file: Mapping[str, Any], package: str, origin: str) -> Locked:
    url = str(file["url"])
    filename = str(file.get("name") or unquote(urlsplit(url).path.rpartition("/")[2]))
    if parsed(filename).name != normalized(package):
        raise errors.BadPackage(filename, f"the lock has it as a file of {package}")
    uploaded = file.get("upload-time")
    if isinstance(uploaded, datetime) and uploaded.tzinfo is None:
        uploaded = uploaded.replace(tzinfo=timezone.utc)
    size = file.get("size")
    return Locked(
        filename=filename,
        url=url,
        sha256=str(file["hashes"]["sha256"]),
        size=int(size) if size is not None else None,
        upload_time=uploaded if isinstance(uploaded, datetime) else None,
        origin=origin,
    )


def hashes(wanted: Wanted) -> set[str]:
    """Return the SHA-256 digests that requirements allow (``--hash=sha256:…``)."""
    texts = [*wanted.requirements]
    for path in wanted.files:
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise errors.UnreadableFile(str(path), error.strerror) from None
    return {digest for text in texts for digest in _HASH.findall(text)}
