"""Small wheels and source distributions, made without any build tool."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

EPOCH = (2020, 1, 1, 0, 0, 0)


def metadata(
    name: str,
    version: str,
    requires: Sequence[str] = (),
    *,
    requires_python: str = "",
    metadata_version: str = "2.3",
    extra: str = "",
) -> str:
    """Return the text of METADATA, or PKG-INFO."""
    lines = [f"Metadata-Version: {metadata_version}", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {required}" for required in requires]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    return "\n".join(lines) + f"\n{extra}"


def wheel(
    directory: Path,
    name: str = "acme-core",
    version: str = "1.0",
    requires: Sequence[str] = (),
    *,
    requires_python: str = "",
    tag: str = "py3-none-any",
    code: str = "",
    text: str | None = None,
    files: Mapping[str, str] = {},
) -> Path:
    """Make a wheel of a package with one module; return its path.

    Args:
        directory: Where it goes.
        name: The project's name, as a person writes it.
        version: The version.
        requires: What it depends on.
        requires_python: Its Requires-Python.
        tag: What it runs on.
        code: The text of its module.
        text: All of METADATA, if that is to be something else.
        files: Further files in it.
    """
    base = name.replace("-", "_").replace(".", "_").lower()
    about = f"{base}-{version}.dist-info"
    body = metadata(name, version, requires, requires_python=requires_python)
    held = {
        f"{base}.py": code or f"VERSION = {version!r}\n",
        f"{about}/METADATA": body if text is None else text,
        f"{about}/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
        ),
        **files,
    }
    record = "".join(
        f"{path},{_digest(text)},{len(text.encode())}\n" for path, text in held.items()
    )
    held[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{base}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in held.items():
            archive.writestr(zipfile.ZipInfo(member, EPOCH), content)
    return path


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def sdist(
    directory: Path,
    name: str = "acme-core",
    version: str = "1.0",
    requires: Sequence[str] = (),
    *,
    requires_python: str = "",
    metadata_version: str = "2.3",
    extra: str = "",
    text: str | None = None,
) -> Path:
    """Make a source distribution; return its path.

    Args:
        directory: Where it goes.
        name: The project's name, as a person writes it.
        version: The version.
        requires: What it depends on.
        requires_python: Its Requires-Python.
        metadata_version: The version of the metadata's format: before 2.2, none is static.
        extra: Further lines of PKG-INFO.
        text: All of PKG-INFO, if that is to be something else.
    """
    base = name.replace("-", "_").replace(".", "_").lower()
    body = metadata(
        name,
        version,
        requires,
        requires_python=requires_python,
        metadata_version=metadata_version,
        extra=extra,
    )
    held = {
        "PKG-INFO": body if text is None else text,
        "pyproject.toml": f'[project]\nname = "{name}"\nversion = "{version}"\n',
        f"{base}.py": f"VERSION = {version!r}\n",
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{base}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member, content in held.items():
            info = tarfile.TarInfo(f"{base}-{version}/{member}")
            info.size = len(content.encode())
            archive.addfile(info, io.BytesIO(content.encode()))
    return path
