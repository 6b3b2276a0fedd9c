"""A client makes the place for a repository, and needs none for that."""

from __future__ import annotations

import pickle

import pytest
import servers
from servers import Remote

from dorky import ConflictError, Credentials, DorkyClient, NotFoundError


def test_the_life_of_a_bucket(s3_url: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own configuration finds the server, not the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    client = DorkyClient(
        endpoint=s3_url.options["endpoint"],
        credentials=Credentials(servers.ACCESS_KEY, servers.SECRET_KEY),
    )
    name = f"lib-{s3_url.url.split('/')[2]}"
    url = f"s3://{name}"
    with pytest.raises(NotFoundError):
        client.delete_bucket(url)
    made = client.create_bucket(url, region="eu-central-1")
    assert (made.name, made.region) == (name, "eu-central-1")
    with pytest.raises(ConflictError):
        client.create_bucket(url)
    assert client.create_bucket(url, exist_ok=True).name == name
    assert name in {info.name for info in client.list_buckets("s3://")}
    assert pickle.loads(pickle.dumps(made)) == made
    client.delete_bucket(url)
    assert name not in {info.name for info in client.list_buckets("s3://")}


def test_a_place_is_examined(place: Remote) -> None:
    report = DorkyClient().validate_bucket(place.url)
    assert {check.verdict for check in report.checks} <= {"ok", "warn"}
    assert {"reading", "writing"} <= {check.name for check in report.checks}
