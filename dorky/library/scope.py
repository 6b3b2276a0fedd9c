"""The scope of a client: its session, and the version that it looks at."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from dorky import errors
from dorky.drivers.base import check_writable
from dorky.library import catalog, contents, glimpses, uploads, vouching
from dorky.library.catalog import Address
from dorky.library.contents import Objects
from dorky.library.records import Config, FileInfo, StrPath
from dorky.library.session import Session
from dorky.store.history import Placed


class Scope(NamedTuple):
    """A session, and the version that a client is pinned to; empty: the newest one."""

    session: Session
    pin: str = ""

    @contextlib.contextmanager
    def asking(self, remote: bool) -> Iterator[Scope]:
        """Return the scope itself, or one whose session reads the cache alone until the end."""
        if remote:
            yield self
            return
        session = Session(self.session.config, offline=True)
        try:
            yield self._replace(session=session)
        finally:
            session.close()

    def version(self, named: str = "") -> str:
        """Return the version to read, of a version or an id: the one named, or the pinned one."""
        if named := catalog.version_of(named) if named else self.pin:
            return catalog.known(self.session, named)
        return self.session.refresh() or ""

    def find(self, path: StrPath, version: str = "") -> tuple[Address, Placed]:
        """Return a file, and where it was found.

        Raises:
            NoSuchFile: There is no such file.
        """
        named = catalog.address(uploads.text_of(path), version)
        where = named._replace(version=self.version(named.version))
        view = catalog.view_of(self.session, where.version)
        return where, catalog.find(self.session, view, where.path, where.version)

    def glimpse(self, path: StrPath, version: str = "") -> tuple[str, glimpses.File | bool | None]:
        """Return the path of a file, and the file as it is read without the history.

        False stands for no file, and None for a question that the history alone answers.
        """
        named = catalog.address(uploads.text_of(path), version)
        if named.version or self.pin or self.session.project.config.rules:
            return named.path, None
        found = glimpses.find(self.session, named.path)
        return named.path, False if isinstance(found, glimpses.Absent) else found

    def content(self, path: StrPath, version: str = "") -> tuple[str, Placed, Objects]:
        """Return the path of a file, the file, and what it is read from.

        Raises:
            NoSuchFile: There is no such file.
        """
        name, found = self.glimpse(path, version)
        if isinstance(found, glimpses.File):
            return name, *found
        where, placed = self.find(path, version)
        self.vouch(where, placed)
        return where.path, placed, contents.Fetched(self.session)

    def vouch(self, where: Address, placed: Placed) -> None:
        """Refuse a file that is not signed as the rules demand, or has another content than that.

        Raises:
            Unsigned: Nobody has signed it.
            BadSignature: Its signatures are not enough.
            CorruptObject: Its content is not the signed one.
        """
        if vouching.check(self.session, {where.path: placed}, where.version):
            for _ in contents.blocks(contents.Fetched(self.session), placed):
                pass  # a range of it could not be hashed when it is read

    def info(self, where: Address, placed: Placed) -> FileInfo:
        """Return what is known of a file."""
        return catalog.info(self.session, where.version, where.path, placed)

    def writable(self) -> Session:
        """Return the session, which has read the root: it tells who may write where.

        Raises:
            ReadOnlyClient: The client looks at one version.
        """
        if self.pin:
            raise errors.ReadOnlyClient(self.pin[:12])
        check_writable(self.session.remote.driver)
        self.session.open()
        return self.session


def configured(config: Config | None, keywords: Mapping[str, object]) -> Config:
    """Return a configuration with the fields that keywords override; None overrides nothing."""
    chosen = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in keywords.items()
        if name in Config.__struct_fields__ and value is not None
    }
    return msgspec.structs.replace(config or Config(), **chosen)
