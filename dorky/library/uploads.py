"""Uploads: the path that a source goes to, and its content, ready for a commit."""

from __future__ import annotations

import functools
import os
from pathlib import PurePath
from typing import cast

from dorky import errors
from dorky.format.codec import coding
from dorky.library import catalog, commits, contents, sources
from dorky.library.commits import Put
from dorky.library.metering import Meter
from dorky.library.outbox import Outbox
from dorky.library.records import StrPath
from dorky.library.session import Session
from dorky.library.sources import Source


def text_of(path: StrPath) -> str:
    """Return a path of a repository as text."""
    return path if isinstance(path, str) else PurePath(path).as_posix()


def target(source: object, path: StrPath | None) -> str:
    """Return the path that an upload puts its file at.

    Raises:
        UsageError: Neither the source nor the caller names one.
    """
    text = "" if path is None else text_of(path)
    if text and not text.endswith("/"):
        return catalog.checked(text)
    if not isinstance(source, str | os.PathLike):
        raise errors.UsageError("an upload of anything but a file on the disk needs a path")
    own = PurePath(cast("StrPath", source))
    keeps = not text and not own.is_absolute() and ".." not in own.parts
    return catalog.checked(text + (own.as_posix() if keeps else own.name))


def taken(
    session: Session,
    source: Source,
    path: str,
    meta: dict[str, str],
    *,
    compress: str = "zstd",
    level: int | None = None,
    meter: Meter | None = None,
    outbox: Outbox | None = None,
) -> Put:
    """Read a source to its end; return the change that puts it at a path.

    Args:
        session: The session.
        source: The source.
        path: The path.
        meta: The notes in its entry.
        compress: The codec.
        level: The codec's level; None: the usual one.
        meter: Receives the progress.
        outbox: Sends the packs of a large source while it is read.
    """
    how = coding(compress, level)
    group = commits.owner_of(session, path)
    meter = meter or Meter(None, "upload")
    advance = functools.partial(meter.advance, path)
    with session.reading(), sources.opened(source, advance) as reading:
        meter.total = reading.total
        content = contents.take(session.store, reading, group, how, outbox)
        return Put(path, content, meta)
