"""Requests to join: small objects in the remote, encrypted to the members' mailbox."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterable

import msgspec

from dorky import errors
from dorky.drivers.base import Driver
from dorky.format import model
from dorky.format.model import Header, KiB, Request
from dorky.keys import age, identities, signing
from dorky.keys.sshsig import Namespace
from dorky.project import Project
from dorky.remote.root import Remote
from dorky.results import JoinRequest

JOIN = "join/"
"""The prefix of requests to join in the remote."""
_REQUEST = 8 * KiB
_REQUESTS = 100
_STANZAS = 8
_NO_REQUEST = (errors.KeyNotFound, errors.IntegrityError, errors.UsageError, model.Malformed)
"""Errors of an object that is not a request to join."""


def waiting(project: Project, remote: Remote) -> list[JoinRequest]:
    """Return the requests to join in the remote; skip those that can't be read."""
    found = []
    for request in read(project, remote):
        signer = "" if request.signer == request.recipient else request.signer
        key = identities.describe(request.recipient, signer=signer)
        found.append(JoinRequest(name=request.name, key=key))
    project.database.set("requests", " ".join(request.name for request in found).encode())
    return found


def read(project: Project, remote: Remote) -> list[Request]:
    """Return the requests to join as they were sent; skip those that can't be read."""
    seen = remote.seen
    assert seen is not None
    if not seen.root.mailbox:
        return []
    try:
        mailbox = age.parse(seen.root.mailbox, "the mailbox")
    except errors.AccessError:  # anyone who can write to the remote can replace it
        return []
    members = {key for member in seen.root.roster.members for key in member.recipients}
    found = []
    for stat in itertools.islice(remote.driver.list(JOIN), _REQUESTS):
        if stat.size > _REQUEST:
            continue
        with contextlib.suppress(*_NO_REQUEST):
            blob = remote.driver.get(stat.key, limit=_REQUEST)
            data = age.unwrap(blob.data, mailbox, most=_STANZAS) if blob else None
            request = model.decode(Request, data) if data else None
            if request and request.recipient not in members and _is_sound(project, request):
                public = age.recipient(request.recipient)
                found.append(msgspec.structs.replace(request, recipient=public))
    return found


def _is_sound(project: Project, request: Request) -> bool:
    """Return whether whoever asks holds the key that is to sign for them."""
    if request.recipient.startswith("ssh-") and request.signer != request.recipient:
        return False
    return signing.is_signed(request, Namespace.JOIN, project.header.repository)


def ask(driver: Driver, header: Header, name: str, identity: age.Identity, ask: age.Ask) -> None:
    """Put a request to join into the remote, readable by members only.

    Raises:
        CantSign: Nobody gives the passphrase of the SSH key.
    """
    signer = signing.signer(identity, ask)
    if signer is None:
        raise errors.CantSign(identity.source)
    request = Request(name, identity.public, signer.public)
    again(driver, header, signing.signed(request, Namespace.JOIN, signer, header.repository))


def again(driver: Driver, header: Header, request: Request) -> None:
    """Put a request that was read into the remote again, for another mailbox."""
    body = model.encode(request)
    driver.put(_place(request.recipient), age.wrap(body, [header.mailbox]))


def forget(project: Project, remote: Remote, name: str, recipients: Iterable[str]) -> None:
    """Delete the requests of somebody who has been added."""
    # A member who may write need not be allowed to delete.
    with contextlib.suppress(errors.AccessError, errors.Unavailable):
        remote.driver.delete(map(_place, recipients))
    left = [other for other in project.database.text("requests").split() if other != name]
    project.database.set("requests", " ".join(left).encode())


def _place(recipient: str) -> str:
    """Return where the request of a recipient lies.

    Each key has one place, and the place does not reveal the key.
    """
    return JOIN + hashlib.sha256(recipient.encode()).hexdigest()[:32]
