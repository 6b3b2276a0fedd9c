"""The server's answers that are text: refusals, redirections, and what became of an upload.

Tools that upload print the reason phrase of the status line alone, so it says what the body says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

from werkzeug.wrappers import Response

from dorky import errors

_LONGEST = 300
_RETRY = "5"
# By class: those that say in their own words what a client needs, and those whose words name places
# that are none of its business.
_STATUSES: tuple[tuple[type[errors.DorkyError], int, str], ...] = (
    (errors.PackageHeld, 409, "{0} is here already, with other content"),
    (errors.ProjectClosed, 403, ""),
    (errors.BadPackage, 400, ""),
    (errors.BadRecord, 500, "the stored file or its record is damaged"),
    (errors.NoSuchPackage, 404, "there is no {0} here"),
    (errors.UpdateConflict, 503, "too many uploads at once: try again"),
    (errors.DiskFull, 507, "the server's disk is full"),
    (errors.Unavailable, 503, "the storage can't be reached: try again"),
    (errors.ForeignGroup, 403, "the project is for a group that this server is not in"),
    (errors.AmbiguousGroup, 403, "several groups claim the project"),
    (errors.AccessError, 502, "the storage refuses the server"),
    (errors.IntegrityError, 500, "what is stored is damaged"),
)


class Refusal(Exception):
    """A request is refused.

    Args:
        status: The status code.
        reason: What the client is told.
        headers: Further headers.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


def refusal(error: errors.DorkyError) -> Refusal:
    """Return how a client is told of an error of the library's."""
    for kind, status, words in _STATUSES:
        if isinstance(error, kind):
            retry = {"Retry-After": _RETRY} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
            return Refusal(status, words.format(*error.args) or error.message, retry)
    return Refusal(500, "the server has failed")


def text(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer whose status line and body say the same."""
    phrase = re.sub(r"[^ -~]+", "?", reason)[:_LONGEST] or HTTPStatus(status).phrase
    body = b"" if status == HTTPStatus.NOT_MODIFIED else f"{phrase}\n".encode()
    answer = Response(body, content_type="text/plain; charset=utf-8", headers=dict(headers or {}))
    answer.status = f"{status} {phrase}"
    if status >= HTTPStatus.BAD_REQUEST:
        answer.headers["Cache-Control"] = "no-store"  # a cache may keep a 404 otherwise
    return answer


def redirection(location: str) -> Response:
    """Return a permanent redirection to a relative URL, for requests of any method."""
    return text(308, HTTPStatus(308).phrase, {"Location": location})
