"""Every call that a driver takes, for servers that fail it or mean harm; and calls, counted."""

from __future__ import annotations

from collections.abc import Callable

from dorky.drivers.base import Driver, Version


def calls(version: str, *, large: int = 0) -> dict[str, Callable[[Driver], object]]:
    """Name each call.

    Args:
        version: An object's version, as the server writes it.
        large: Also an upload of so many bytes.
    """
    found: dict[str, Callable[[Driver], object]] = {
        "get": lambda d: d.get("root"),
        "get_unless": lambda d: d.get("root", unless=Version(version)),
        "get_range": lambda d: d.get_range("packs/a", 0, 10),
        "put": lambda d: d.put("packs/a", b"x"),
        "create": lambda d: d.swap("root", b"x", expected=None),
        "update": lambda d: d.swap("root", b"x", expected=Version(version)),
        "list": lambda d: list(d.list("packs/")),
        "delete": lambda d: d.delete(["packs/a", "packs/b"]),
    }
    if large:
        found["put_large"] = lambda d: d.put("packs/a", bytes(large))
    return found


class Requests(list[tuple[str, str, int]]):
    """The requests to a directory: verb, key and bytes of each."""

    def count(self, *_: object) -> int:
        return len(self)

    @property
    def size(self) -> int:
        return sum(size for _, _, size in self)
