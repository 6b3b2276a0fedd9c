"""What the benchmarks' figures rest on: counting, and judging. No test here measures time."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from servers import Canned, stub_server

# They are no part of the package: dev.py runs them from the root of the checkout.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks import growth, provenance
from benchmarks.bars import BARS, Bar, Verdict, judge, link
from benchmarks.bench import Sample
from benchmarks.data import Different, Samples, change, check_equal, copy, put_in_front
from benchmarks.jobs import Sizes, jobs
from benchmarks.peers import TOOLS
from benchmarks.proxy import Proxy, RequestScanner, as_s3_says, delayed
from benchmarks.report import Report

ANSWER = b"answer " * 1000
# What is in a body is no request, however much it looks like one.
BODY = b"GET /not-a-request HTTP/1.1\r\nHost: nobody\r\n\r\n" * 50
HEAD = b"PUT /bucket/key HTTP/1.1\r\nHost: x\r\ncontent-length: %d\r\n\r\n"
CHUNKED = b"POST /chunked HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with (
        stub_server(lambda _method, _target: Canned(200, ANSWER)) as server,
        delayed(server.endpoint, round_trip=0.0) as running,
    ):
        yield running


# --- the proxy ------------------------------------------------------------------------------


def test_the_proxy_counts_requests_and_bytes(proxy: Proxy) -> None:
    place = urlsplit(proxy.endpoint)
    for _ in range(2):  # connections
        connection = HTTPConnection(place.hostname or "", place.port)
        for method, body in (("PUT", BODY), ("GET", None), ("PUT", BODY), ("DELETE", None)):
            connection.request(method, "/bucket/key", body)
            assert connection.getresponse().read() == ANSWER
        connection.close()
    traffic = proxy.take()
    assert traffic.requests == {"PUT": 4, "GET": 2, "DELETE": 2}
    heads = 8 * 200
    assert 4 * len(BODY) < traffic.up < 4 * len(BODY) + heads
    assert 8 * len(ANSWER) < traffic.down < 8 * len(ANSWER) + heads
    assert proxy.take().requests == {}


@pytest.mark.parametrize("step", [1, 2, 7, 64, 1 << 20])
def test_requests_are_found_however_the_stream_is_cut(step: int) -> None:
    stream = b"".join([
        HEAD % len(BODY), BODY, HEAD % 0, b"HEAD /a HTTP/1.1\r\n\r\n",
        CHUNKED, b"%x;sig=1\r\n" % len(BODY), BODY, b"\r\n0\r\nTrailer: a\r\n\r\n",
        CHUNKED, b"0\r\n\r\n", b"GET /b HTTP/1.1\r\n\r\n",
    ])  # fmt: skip
    scanner = RequestScanner()
    found = [
        method
        for at in range(0, len(stream), step)
        for method in scanner.feed(stream[at : at + step])
    ]
    assert found == ["PUT", "PUT", "HEAD", "POST", "POST", "GET"]


def test_a_range_is_answered_as_s3_does() -> None:
    partial = b"HTTP/1.1 200 OK\r\nETag: a\r\nContent-Range: bytes 0-3/9\r\n\r\nbody"
    assert as_s3_says(partial) == partial.replace(b"200 OK", b"206 Partial Content")
    whole = b"HTTP/1.1 200 OK\r\nETag: a\r\n\r\nContent-Range: bytes 0-3/9\r\n"
    assert as_s3_says(whole) == whole


def test_a_rate_is_kept_to() -> None:
    """2 connections share 8 Mbit/s: more time than that is no fault."""
    with (
        stub_server(lambda _method, _target: Canned(200, ANSWER * 10)) as server,
        delayed(server.endpoint, round_trip=0.0, rate=1e6) as running,
    ):
        place = urlsplit(running.endpoint)
        began = time.monotonic()
        for _ in range(2):
            connection = HTTPConnection(place.hostname or "", place.port)
            connection.request("GET", "/bucket/key")
            assert connection.getresponse().read() == ANSWER * 10
            connection.close()
        assert time.monotonic() - began > 2 * 70_000 / 1e6


# --- the data -------------------------------------------------------------------------------


def test_a_difference_is_found(tmp_path: Path) -> None:
    source = Samples(tmp_path / "samples").small(3)
    one, other = tmp_path / "one", tmp_path / "other"
    copy(source, one)
    copy(source, other)
    check_equal(one, other)
    change(one)
    with pytest.raises(Different, match=r"000/000\.bin"):
        check_equal(one, other)
    (one / "more").write_text("")
    with pytest.raises(Different, match="more"):
        check_equal(one, other)


def test_one_byte_is_put_in_front(tmp_path: Path) -> None:
    source = Samples(tmp_path).noise(1)
    before = (source / "large.bin").read_bytes()
    put_in_front(source)
    assert (source / "large.bin").read_bytes() == b"!" + before
    assert [path.name for path in source.iterdir()] == ["large.bin"]


# --- the report -----------------------------------------------------------------------------


def measured() -> dict[tuple[str, str], list[Sample]]:
    return {
        # Medians of 0.2 and 0.4; the means say otherwise.
        ("env.push", "dorky"): [Sample(0.1), Sample(0.2), Sample(9.0)],
        ("env.push", "s5cmd"): [Sample(0.4), Sample(0.4), Sample(0.4)],
        ("env.push", "rclone"): [Sample(0.1), Sample(0.1), Sample(0.1)],
        ("shift", "restic"): [Sample(1.0)],
        ("shift.all", "dorky"): [Sample(0.5, up=3 << 20)],
    }


def verdict(job: str, against: str = "", measure: str = "seconds") -> Verdict:
    (found,) = (
        verdict
        for verdict in judge(measured())
        if (verdict.bar.job, verdict.bar.against, verdict.bar.measure) == (job, against, measure)
    )
    return found


def test_medians_are_judged() -> None:
    assert verdict("env.push", "s5cmd").value == pytest.approx(0.5)
    assert verdict("env.push", "s5cmd").word == "met"
    assert verdict("env.push", "rclone").value == pytest.approx(2.0)
    assert verdict("env.push", "rclone").word == "MISSED"
    assert verdict("shift.all", "", "up").value == 3
    assert verdict("few.push", "s5cmd").word == "not measured"
    # A tool that has no steps before its push is compared with all of dorky's.
    assert verdict("shift.all", "restic").value == pytest.approx(0.5)
    assert Verdict(Bar(1, "env.push", None), 7.0).word == "for the record"


def test_every_bar_is_of_a_job_and_a_tool() -> None:
    every = [*jobs(Sizes()), *growth.growth(growth.COUNTS)]
    titles = {title for job in every for title in job.titles}
    for bar in BARS:
        assert bar.job in titles
        assert not bar.against or bar.against in {*TOOLS, *titles, "npm dorky*"}
    assert {tool for job in every for tool in job.tools} <= set(TOOLS)


def test_some_bars_are_for_one_kind_of_link() -> None:
    def limits(where: str) -> list[float | None]:
        chosen = ("large.noise.pull", "s5cmd")
        return [v.bar.limit for v in judge({}, where) if (v.bar.job, v.bar.against) == chosen]

    assert [link(25, 0), link(0, 0), link(0, 2000)] == ["distant", "loopback", "slow"]
    assert (limits("distant"), limits("loopback"), limits("slow")) == ([], [1.8], [1.1])


def test_growth_is_by_processor_time_and_file() -> None:
    found = {
        ("growth.10000.stage", "dorky"): [Sample(9.0, 1.0), Sample(1.0, 1.0), Sample(2.0, 1.0)],
        ("growth.100000.stage", "dorky"): [Sample(30.0, 15.0, 240.0)],
        ("growth.10000.status", "git"): [Sample(0.1, 0.1)],
    }
    head, *rows = growth.table(found)
    assert head[0] == "step"
    assert [row[:4] for row in rows] == [
        ["stage all", "10,000", "2.00", "1.00"],
        ["stage all", "100,000", "30.00", "15.00"],
        ["git: status, nothing changed", "10,000", "0.10", "0.10"],
    ]
    assert [row[-1] for row in rows] == ["", "1.50", ""]
    titles = {f"growth.{count}.stage": "stage" for count in growth.COUNTS}
    assert "1.50" in Report({}, titles, found, []).text()


def test_a_run_is_drawn_again_from_its_record(tmp_path: Path) -> None:
    titles = {name: words for job in jobs(Sizes()) for name, words in job.titles.items()}
    report = Report({"machine": "of the tests"}, titles, measured(), ["restic: not found"])
    report.write_json(tmp_path / "results.json")
    again = Report.read(tmp_path / "results.json")
    assert again.measured == measured()
    assert again.record()["jobs"] == report.record()["jobs"]


def test_the_report_says_all(tmp_path: Path) -> None:
    titles = {name: words for job in jobs(Sizes()) for name, words in job.titles.items()}
    report = Report({"machine": "of the tests"}, titles, measured(), ["restic: not found"])
    text = report.text()
    assert "machine: of the tests" in text
    assert "restic: not found" in text
    row = next(line.split() for line in text.splitlines() if "s5cmd" in line and "÷" not in line)
    assert row == ["s5cmd", "0.400", "0.400"]

    report.write_json(tmp_path / "new" / "results.json")
    record = json.loads((tmp_path / "new" / "results.json").read_text())
    assert set(record) == {"facts", "jobs", "bars", "missing"}
    first = record["jobs"][0]
    assert (first["job"], first["tool"], first["median_seconds"]) == ("env.push", "dorky", 0.2)
    assert [sample["seconds"] for sample in first["samples"]] == [0.1, 0.2, 9.0]
    assert {"job", "limit", "value", "verdict", "against"} <= set(record["bars"][0])


# --- provenance -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", provenance.KEYS)
def test_signed_statements_are_measured(kind: str) -> None:
    assert all(time > 0 for time in provenance.measure(kind, 20))
