"""The URLs of the server."""

from __future__ import annotations

from typing import Literal, NamedTuple

from dorky.extras.index.signatures import ENDINGS

Kind = Literal[
    "health",
    "ready",
    "metrics",
    "robots",
    "legacy",
    "projects",
    "project",
    "file",
    "metadata",
    "signature",
    "record",
    "nothing",
]

_ALONE: dict[str, Kind] = {
    "/health": "health",
    "/ready": "ready",
    "/metrics": "metrics",
    "/robots.txt": "robots",
    "/python/legacy": "legacy",
    "/python/legacy/": "legacy",
    "/python/simple": "projects",
    "/python/simple/": "projects",
}
_BELOW = "/python/"
_BESIDE: dict[str, Kind] = {
    ".metadata": "metadata",
    **dict.fromkeys(ENDINGS, "signature"),
    ".json": "record",
}
"""The kinds of what is served of a file, by the ending that its name gets."""


class Route(NamedTuple):
    """What a URL names. Neither name is checked.

    Attributes:
        kind: The kind of thing.
        project: The project.
        filename: The file, without the ending of its metadata, record or signature.
        simple: Whether it is below ``/python/simple/``.
        ending: That ending.
    """

    kind: Kind
    project: str = ""
    filename: str = ""
    simple: bool = True
    ending: str = ""


def find(path: str) -> Route:
    """Return what the path of a URL names."""
    if path in _ALONE or not path.startswith(_BELOW):
        return Route(_ALONE.get(path, "nothing"))
    parts = path[len(_BELOW) :].split("/")
    simple = parts[0] == "simple"
    parts = parts[1:] if simple else parts
    if not parts[0] or len(parts) > 2:
        return Route("nothing")
    project, name = [*parts, ""][:2]
    if not name:
        return Route("project", project, simple=simple)
    ending = next(filter(name.endswith, _BESIDE), "")
    kind = _BESIDE.get(ending, "file")
    return Route(kind, project, name.removesuffix(ending), simple, ending)
