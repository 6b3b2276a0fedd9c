"""The names of projects and of their files."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from packaging.utils import (
    InvalidName,
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from dorky import errors

# One component of a path and of a URL, whatever `packaging` lets through.
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,250}")
_LONGEST = 128


class Named(NamedTuple):
    """The parts of a file's name.

    Attributes:
        name: The project, normalized.
        version: The version, in its canonical form.
        kind: Whether it is a wheel or a source distribution.
    """

    name: str
    version: Version
    kind: Literal["wheel", "sdist"]


def normalized(name: str) -> str:
    """Return a project's name as paths and URLs have it (PEP 503).

    Raises:
        BadPackage: It is no name.
    """
    try:
        found = canonicalize_name(name, validate=True)
    except InvalidName:
        found = None
    # The pattern that `packaging` checks lets a line end through.
    if not found or len(found) > _LONGEST or not _FILENAME.fullmatch(found):
        raise errors.BadPackage(repr(name[:_LONGEST]), "it is no project's name")
    return found


def parsed_version(text: str) -> Version:
    """Return a version (PEP 440).

    Raises:
        BadPackage: It is no version.
    """
    try:
        return Version(text)
    except InvalidVersion:
        raise errors.BadPackage(repr(text[:_LONGEST]), "it is no version") from None


def parsed(filename: str) -> Named:
    """Return what the name of a wheel or a source distribution says.

    Raises:
        BadPackage: It is no such name.
    """
    if not _FILENAME.fullmatch(filename):
        raise errors.BadPackage(repr(filename[:_LONGEST]), "it is no file's name")
    try:
        if filename.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(filename)
            return Named(normalized(name), version, "wheel")
        if filename.endswith((".tar.gz", ".zip")):
            name, version = parse_sdist_filename(filename)
            return Named(normalized(name), version, "sdist")
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion) as error:
        raise errors.BadPackage(filename, f"its name is wrong: {error}") from None
    raise errors.BadPackage(filename, "it is no wheel (.whl) and no sdist (.tar.gz, .zip)")


def is_file(filename: str) -> bool:
    """Return whether a file's name is that of a wheel or a source distribution."""
    try:
        parsed(filename)
    except errors.BadPackage:
        return False
    return True


def file_path(filename: str) -> str:
    """Return where a file lies in a depot."""
    return f"files/{parsed(filename).name}/{filename}"


def record_path(name: str, version: Version) -> str:
    """Return where the records of a version's files lie in a depot."""
    return f"python/{name}/{version}.json"


def status_path(name: str) -> str:
    """Return where a project's status lies in a depot."""
    return f"python/{name}/project.json"
