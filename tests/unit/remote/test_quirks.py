"""Providers that differ from AWS: what the probe finds, and what works with them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import quirks
from machines import Machine, bucket, driver_of
from servers import Server

from dorky import errors
from dorky.remote import probe


@pytest.mark.parametrize("quirk", ["b2", "oss", "no-if-match"])
def test_conditions_are_not_implemented(s3_server: Server, tmp_path: Path, quirk: str) -> None:
    with quirks.quirky(s3_server, quirk) as (place, _):
        ana = Machine(tmp_path / "ana", place.env)
        said = ana("init", place.url, code=5)
        assert "does not support conditional writes" in said.error
        assert "NotImplemented" in said.error
        assert said.hint.endswith(f"dorky init {place.url} --single-writer")
        ana("init", place.url, "--single-writer")
        assert bucket(place).keys() == {"root"}


def test_a_proxy_weakens_etags(s3_server: Server, tmp_path: Path) -> None:
    with quirks.quirky(s3_server, "weak") as (place, front):
        ana = Machine(tmp_path / "ana", place.env)
        why = "a proxy on the way makes its versions (ETags) weak"
        assert why in ana("init", place.url, code=5).error
        front.quirk = ""
        ana("init", place.url)
        ana.commit({".env": "A=1\n"})
        front.quirk = "weak"
        # The version noted is still a strong one.
        ana("push")
        ana.commit({".env": "A=2\n"})
        front.conditions.clear()
        said = ana("push", code=5)
        assert why in said.error
        assert len(front.conditions) == 1


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("quirk", ["ignore", "missing"])
def test_conditions_are_ignored(s3_server: Server, quirk: str) -> None:
    """Also one that writes over nothing: a push would succeed into a remote that is gone."""
    with quirks.quirky(s3_server, quirk) as (place, _):
        assert probe.honours_swaps(driver_of(place)) is False
        assert bucket(place) == {}


@pytest.mark.usefixtures("as_shipped")
def test_one_write_a_second(s3_server: Server) -> None:
    """The probe waits, and races for the same key again."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time.sleep(0.4)

    with quirks.quirky(s3_server, "one-per-second") as (place, _):
        assert probe.honours_swaps(driver_of(place), sleep=sleep) is True
        assert bucket(place) == {}
    assert slept


def test_versions_without_quotation_marks(s3_server: Server, tmp_path: Path) -> None:
    """The first probe finds it out; this clone remembers, and another finds out by itself."""
    with quirks.quirky(s3_server, "unquoted") as (place, front):
        ana = Machine(tmp_path / "ana", place.env)
        ana("init", place.url)
        ana.commit({".env": "A=1\n"})
        front.conditions.clear()
        ana("push")
        assert len(front.conditions) == 1
        assert '"' not in front.conditions[0][1]
        other = ana.another("other")
        other("clone", place.url, ".")
        other.commit({".env": "A=2\n"})
        other("push")
        ana("pull")
        assert ana.read(".env") == b"A=2\n"
        ana.commit({".env": "A=3\n"})
        other.commit({"b": "1"})
        ana("push")
        other("push", code=5)


@pytest.mark.parametrize("quirk", ["b2", "oss", "ignore", "weak", "unquoted"])
def test_a_single_writer_sends_no_conditions(s3_server: Server, tmp_path: Path, quirk: str) -> None:
    with quirks.quirky(s3_server, quirk) as (place, front):
        ana = Machine(tmp_path / "ana", place.env)
        ana("init", place.url, "--single-writer", "--name", "ana")
        ana.commit({".env": "A=1\n"})
        ana("push")
        ben = ana.another("ben", identity=False)
        ben("key", "gen")
        ana("team", "add", "ben", *ben("key", "show").out.split())
        ana("rotate")
        ana("gc", "--remote")
        ben.write(".dorkyrc", ana.read(".dorkyrc"))
        ben("pull")
        assert ben.read(".env") == b"A=1\n"
        assert front.conditions == []


def test_two_single_writers_are_noticed(s3_server: Server, tmp_path: Path) -> None:
    """It is compared before it is written, so what came in between is not lost silently."""
    with quirks.quirky(s3_server, "b2") as (place, _):
        ana = Machine(tmp_path / "ana", place.env)
        ana("init", place.url, "--single-writer")
        ana.commit({".env": "A=1\n"})
        ana("push")
        other = ana.another("other")
        other.write(".dorkyrc", ana.read(".dorkyrc"))
        other("pull")
        ana.commit({".env": "A=2\n"})
        ana("push")
        other.commit({"b": "1"})
        assert "rejected" in other("push", code=5).error
        other("sync")
        ana("pull")
        assert ana.read("b") == b"1"


def test_bulk_deletes_are_refused(s3_server: Server, tmp_path: Path) -> None:
    with quirks.quirky(s3_server, "no-bulk") as (place, _):
        ana = Machine(tmp_path / "ana", place.env)
        ana("init", place.url)
        ana.commit({".env": "A=1\n"})
        ana("push")
        assert ana("rotate", "--json").json["left"] == 0
        ana("destroy", "--remote", "--yes")
        assert bucket(place) == {}


@pytest.mark.parametrize("options", [(), ("--single-writer",)], ids=["", "single"])
def test_a_bucket_with_object_lock(
    s3_server: Server, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """It takes no write without a checksum: of packs, tables, requests, scratch keys, the root."""
    with quirks.quirky(s3_server, "object-lock") as (place, _):
        ana = Machine(tmp_path / "ana", place.env)
        ana("init", place.url, "--name", "ana", *options)
        ana.commit({".env": "A=1\n", "noise": bytes(range(256)) * 900})
        ana("push")
        ben = ana.another("ben", identity=False)
        ben.write(".dorkyrc", ana.read(".dorkyrc"))
        key = ben("team", "join", "ben", "--json").json["key"]
        ana("team", "add", "ben", "--fingerprint", key["fingerprint"])
        ben("pull")
        ana("rotate", "--history")
        ana("gc", "--remote", "--grace", "0")
        ana("fsck", "--remote", "--read-data")
        ana("doctor")


@pytest.mark.usefixtures("as_shipped")
def test_a_busy_store_is_no_verdict(s3_server: Server) -> None:
    with quirks.quirky(s3_server, "one-per-second") as (place, front):
        front.second = 1000.0
        with pytest.raises(errors.ServerBusy):
            probe.honours_swaps(driver_of(place), sleep=lambda _: None)
