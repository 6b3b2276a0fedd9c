"""Other users of this machine, where root runs the tests and can become them."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from machines import Machine, Said

T = TypeVar("T")

EVE, VIC = 2001, 2002

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def as_user(uid: int, act: Callable[[], T]) -> T:
    """Do something as another user, in a process of its own; give what comes of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        result: Any
        try:
            os.close(reading)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            result = act()
        except BaseException:  # noqa: BLE001 - the parent raises it
            result = AssertionError(traceback.format_exc())
        try:
            with open(writing, "wb") as pipe:
                pickle.dump(result, pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        result = pickle.load(pipe)
    os.waitpid(child, 0)
    if isinstance(result, AssertionError):
        raise result
    found: T = result
    return found


class User(Machine):
    """Somebody with a home on a machine that others use, too."""

    def __init__(self, uid: int, base: Path) -> None:
        super().__init__(base, {})
        self.uid = uid
        for path in (self.home, self.project):
            path.chmod(0o700)
            os.chown(path, uid, uid)

    def run(self, *arguments: object) -> Said:
        return as_user(self.uid, lambda: super(User, self).run(*arguments))

    def make(self, path: Path, text: str | None = None) -> Path:
        """Make a directory, or a file that holds a text, as this user."""

        def act() -> None:
            if text is None:
                path.mkdir(mode=0o755)
            else:
                path.write_text(text)

        as_user(self.uid, act)
        return path
