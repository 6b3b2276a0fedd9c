"""Lists with keys that are not dorky's, lists that don't end, and buckets with Object Lock."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
import servers
from servers import Canned

from dorky import errors
from dorky.drivers import open_driver


def page(keys: list[str], token: str = "") -> Canned:
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    items = "".join(
        f'<Contents><Key>{key}</Key><Size>1</Size><ETag>"x"</ETag>'
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in keys
    )
    truncated = "true" if token else "false"
    return Canned(
        200,
        f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{more}{items}</ListBucketResult>",
    )


def test_keys_with_empty_parts() -> None:
    """Other programs make such keys below the prefix; they hide none of dorky's."""

    def answer(_: str, target: str) -> Canned:
        if "continuation" in target:
            return page(["pre/packs//b", "pre/packs/./d", "pre/packs/e"])
        return page([f"pre/packs/{n:03}" for n in range(300)], "next")

    with servers.stub_server(answer) as server:
        driver = open_driver("s3://bucket/pre", servers.s3_options(server.endpoint))
        found = [each.key for each in driver.list("packs/")]
    assert found[:300] == [f"packs/{n:03}" for n in range(300)]
    assert found[300:] == ["packs/e"]


@pytest.mark.parametrize("keys", [["a"], ["a", "b"], ["/b"]], ids=["1", "2", "//"])
def test_a_token_that_repeats(keys: list[str]) -> None:
    with servers.stub_server(
        lambda *_: page([f"pre/packs/{key}" for key in keys], "same")
    ) as server:
        driver = open_driver("s3://bucket/pre", servers.s3_options(server.endpoint))
        with pytest.raises(errors.BadEndpoint, match=r"its list (does not end|repeats itself)"):
            list(driver.list("packs/"))
        assert len(server.log) < 300


def test_object_lock_wants_a_checksum() -> None:
    """Every write has a checksum; S3 answers 400 to a request without one."""
    seen: list[dict[str, str]] = []

    def act(request: Any) -> None:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        servers.send(request, 200, {"Content-Length": "0"}, iter(()))

    with servers.answering(act) as endpoint:
        driver = open_driver("s3://bucket/pre", servers.s3_options(endpoint))
        driver.put("packs/a", b"x")
        driver.put("packs/b", bytes(2 << 20))
        driver.swap("root", b"x", expected=None)
    for headers, data in zip(seen, [b"x", bytes(2 << 20), b"x"], strict=True):
        wanted = base64.b64encode(hashlib.sha256(data).digest()).decode()
        assert headers["x-amz-checksum-sha256"] == wanted
