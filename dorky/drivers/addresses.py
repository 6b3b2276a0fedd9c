"""Addresses that a URL from a stranger may lead to, and connections to no others.

A `.dorkyrc` comes with a git clone. Were it to name a host inside the user's own network, reading
from it would send requests there in the user's name, and a name can resolve to any address. So
addresses are checked after the resolution, and the one that was checked is connected to.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from dorky import errors

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ANSWER = 1 << 16

Check = Callable[[str], bool]
"""Returns whether an address may be reached."""


def is_named(host: str, names: str) -> bool:
    """Return whether a host is one of those that are separated by commas."""
    return host in {name.strip().strip("[]").lower() for name in names.split(",")}


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; of one that stands for an IPv4 address, that one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        teredo = found.teredo[1] if found.teredo else None
        if inner := found.ipv4_mapped or found.sixtofour or teredo:
            return inner
        if found in _NAT64:
            return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found


def is_any(_: str) -> bool:
    """Return True."""
    return True


def is_none(_: str) -> bool:
    """Return False."""
    return False


def is_public(address: str) -> bool:
    """Return whether an address is on the public Internet."""
    found = _parsed(address)
    return found.is_global and not found.is_multicast


def is_loopback(address: str) -> bool:
    """Return whether an address is this machine's own."""
    return _parsed(address).is_loopback


def _resolved(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:  # such a name can't be in a query
        raise socket.gaierror(host) from None
    return [(int(family), place) for family, _, _, _, place in found]  # type: ignore[misc]


def check_name(host: str, port: int, may_reach: Check) -> None:
    """Check a host that a proxy connects to, as far as this machine can resolve it.

    Raises:
        PrivateHost: It may not be reached.
    """
    with contextlib.suppress(OSError):  # only the proxy may know the name
        for _, place in _resolved(host, port):
            if not may_reach(place[0]):
                raise errors.PrivateHost(host)


def dial(host: str, port: int, seconds: float, may_reach: Check) -> socket.socket:
    """Connect to a host, at the first of its addresses that answers.

    Raises:
        PrivateHost: None of its addresses may be reached.
        OSError: None of them answers.
    """
    failure: OSError | None = None
    for family, place in _resolved(host, port):
        if not may_reach(place[0]):
            continue
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.settimeout(seconds)
            made.connect(place)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        except OSError as error:
            made.close()
            failure = error
    raise failure or errors.PrivateHost(host)


def tunnel(proxy: str, host: str, port: int, seconds: float) -> socket.socket:
    """Return a connection to a host through the user's own proxy.

    Raises:
        OSError: The proxy can't be reached, or refuses.
    """
    place = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if place.scheme != "http" or not place.hostname:
        raise OSError("Tunnel connection failed: only http:// proxies are supported")
    made = dial(place.hostname, place.port or 80, seconds, is_any)
    try:
        named = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {named} HTTP/1.1", f"Host: {named}"]
        if place.username is not None:
            user = f"{unquote(place.username)}:{unquote(place.password or '')}".encode()
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(user).decode()}")
        made.sendall("\r\n".join([*lines, "", ""]).encode())
        said = b""
        # Byte by byte: what follows is the server's.
        while not said.endswith(b"\r\n\r\n") and len(said) < _ANSWER and (one := made.recv(1)):
            said += one
        status = said.partition(b"\r\n")[0].split(b" ", 2)
        if len(status) < 2 or not status[1].startswith(b"2") or not said.endswith(b"\r\n\r\n"):
            shown = status[1].decode(errors="replace")[:3] if len(status) > 1 else ""
            raise OSError(f"Tunnel connection failed: {shown}")
        return made
    except BaseException:
        made.close()
        raise
