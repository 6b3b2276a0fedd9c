"""Stores that don't know DeleteObjects: keys are deleted one by one."""

from __future__ import annotations

import pytest
import servers
from servers import Canned

from dorky import errors
from dorky.drivers.s3 import S3Driver

REFUSALS = {
    "501": Canned(501, "<Error><Code>NotImplemented</Code><Message>no</Message></Error>"),
    "405": Canned(405, "<Error><Code>MethodNotAllowed</Code></Error>"),
    "405, empty": Canned(405),
    "400": Canned(400, "<Error><Code>InvalidArgument</Code></Error>"),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_bulk_is_refused(refusal: Canned) -> None:
    """It is asked for once; a key that is missing counts as deleted."""
    gone = Canned(404, "<Error><Code>NoSuchKey</Code></Error>")

    def answer(method: str, target: str) -> Canned:
        if method == "POST":
            return refusal
        return gone if "missing" in target else Canned(204)

    with servers.stub_server(answer) as server:
        driver = S3Driver.open("s3://bucket/pre", servers.s3_options(server.endpoint))
        driver.delete(["packs/a", "missing", "packs/b"])
        driver.delete(["packs/c"])
    assert server.log == [
        ("POST", "/bucket"),
        ("DELETE", "/bucket/pre/packs/a"),
        ("DELETE", "/bucket/pre/missing"),
        ("DELETE", "/bucket/pre/packs/b"),
        ("DELETE", "/bucket/pre/packs/c"),
    ]


SINGLE = {
    "403": (Canned(403, "<Error><Code>AccessDenied</Code></Error>"), errors.AccessDenied),
    "501": (Canned(501, "<Error><Code>NotImplemented</Code></Error>"), errors.BadEndpoint),
    "503": (Canned(503), errors.ServerBusy),
    "no XML": (Canned(400, "what?"), errors.Unavailable),
}


@pytest.mark.parametrize(("answered", "kind"), SINGLE.values(), ids=SINGLE)
def test_single_deletes_are_refused_too(answered: Canned, kind: type[errors.DorkyError]) -> None:
    def answer(method: str, _: str) -> Canned:
        return REFUSALS["501"] if method == "POST" else answered

    with servers.stub_server(answer) as server:
        driver = S3Driver.open("s3://bucket/pre", servers.s3_options(server.endpoint))
        with pytest.raises(kind):
            driver.delete(["packs/a"])


@pytest.mark.parametrize(
    ("answered", "kind"),
    [
        (Canned(403, "<Error><Code>AccessDenied</Code></Error>"), errors.AccessDenied),
        (Canned(404, "<Error><Code>NoSuchBucket</Code></Error>"), errors.BucketNotFound),
        (Canned(503), errors.ServerBusy),
    ],
)
def test_what_is_refused_for_another_reason_is_sent_once(
    answered: Canned, kind: type[errors.DorkyError]
) -> None:
    with servers.stub_server(lambda *_: answered) as server:
        driver = S3Driver.open("s3://bucket/pre", servers.s3_options(server.endpoint))
        with pytest.raises(kind):
            driver.delete(["packs/a", "packs/b"])
    assert server.log == [("POST", "/bucket")]
