"""The directory of packages that commands of Python packages work on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dorky import errors

if TYPE_CHECKING:
    from dorky.extras.index.depot import Depot

USUAL_DIR = ".depot-storage/python"
"""Where packages are if no command and no variable says so."""

Dir = Annotated[
    str,
    typer.Option(
        "--dir",
        metavar="DIR",
        envvar="DEPOT_PYTHON_DIR",
        show_envvar=False,
        help=f"The packages; else DEPOT_PYTHON_DIR, else {USUAL_DIR}.",
    ),
]
"""The option of commands on a directory of packages."""


@contextlib.contextmanager
def extra() -> Iterator[None]:
    """Import what the extra brings, or name it.

    Raises:
        ExtraMissing: It is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dorky"):
            raise
        raise errors.ExtraMissing(f"the package {error.name}") from None


def depot_in(directory: str) -> Depot:
    """Return the depot in a directory on the disk; empty: the usual one."""
    with extra():
        from dorky.extras.index.depot import Depot
        from dorky.extras.index.storage import Directory

    return Depot(Directory(Path(directory or USUAL_DIR)))
