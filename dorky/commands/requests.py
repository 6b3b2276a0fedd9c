"""Requests to join: small objects in the remote, encrypted to the members' mailbox."""

from __future__ import annotations

import contextlib
import itertools

from dorky import errors
from dorky.format import model
from dorky.format.model import KiB, Request
from dorky.keys import age, identities
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
            if request and request.recipient not in members:
                public = age.recipient(request.recipient)
                found.append(JoinRequest(name=request.name, key=identities.describe(public)))
    project.database.set("requests", " ".join(request.name for request in found).encode())
    return found
