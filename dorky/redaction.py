"""Take credentials out of what is shown: messages, hints, tracebacks, settings."""

from __future__ import annotations

import re

_CREDENTIALS = (
    # Of these schemes all that stands before the @; of others (sftp://me:secret@host) the password.
    (re.compile(r"(\b(?:https?|s3|gs|file)://)[^/\s?#]*@", re.IGNORECASE), r"\1***@"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^/\s:?#@]*:)[^/\s?#]*@", re.IGNORECASE), r"\1***@"),
    # What signs an address: S3's and GCS's presigned ones, Azure's SAS, tokens of whatever kind.
    (
        re.compile(
            r"([?&](?:x-(?:amz|goog)-(?:signature|credential|security-token)|sig|signature"
            r"|awsaccesskeyid|googleaccessid|[a-z_-]*(?:token|secret|password|passwd|api_?key"
            r"|access_?key))=)[^&\s\"'<>#]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (
        re.compile(
            r"(\b(?:proxy-)?authorization[\"']?\s*[:=]|\bx-amz-security-token[\"']?\s*[:=])[^\r\n]+",
            re.IGNORECASE,
        ),
        r"\1 ***",
    ),
    # The name of a project's state: anyone who knows it could forge one. DORKY_DIR is absolute.
    (re.compile(r"(\.dorky/)[0-9a-f]{64}(?![0-9a-f])"), r"\1…"),
    (
        re.compile(
            r"((?<![\w:/.-])/(?:[^/\n\"']+/)*)(?<!/packs/)(?<!/tables/)(?<!/damaged/)(?<!/forged/)"
            r"[0-9a-f]{64}(?![0-9a-f])"
        ),
        r"\1…",
    ),
    (re.compile(r"\b(bearer|basic)\s+[a-z0-9._~+/=-]{16,}", re.IGNORECASE), r"\1 ***"),
)


def redacted(text: str) -> str:
    """Return a text without the credentials, and without the names of states, in it.

    Credentials are passwords before a host (``https://user:secret@host``), signatures and tokens in
    a query, and anything that follows ``Authorization:``.
    """
    for pattern, replacement in _CREDENTIALS:
        text = pattern.sub(replacement, text)
    return text
