"""`python -m benchmarks.heartbeat [MIB]`: how late an event loop is while large files go both ways.

A task wakes up every 10 ms while `AsyncDorkyClient` uploads and downloads a file that can't be
compressed. Each line tells the most that it was late, and how often by over 100 ms.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anyio

from dorky import AsyncDorkyClient

BEAT = 0.01
LATE = 0.1
MIB = 1 << 20


def noise(size: int) -> Iterator[bytes]:
    """Yield incompressible blocks, without much work."""
    # Small: copying a large one would itself be late, and chunks without a number of their own
    # would be the same.
    block = os.urandom(MIB // 4)
    for n in range(size // len(block)):
        yield n.to_bytes(8, "big") + block[8:]


async def listen(delays: list[float]) -> None:
    """Note how late each beat is."""
    while True:
        begun = time.perf_counter()
        await anyio.sleep(BEAT)
        delays.append(time.perf_counter() - begun - BEAT)


async def measure(place: Path, size: int) -> None:
    """Upload and download a file, and print how late the loop was."""
    async with await AsyncDorkyClient.create(str(place / "vault")) as client:
        for what in ("upload", "download"):
            delays: list[float] = []
            async with anyio.create_task_group() as group:
                group.start_soon(listen, delays)
                if what == "upload":
                    await client.upload(noise(size), "big")
                else:
                    await client.download("big", place / "out")
                group.cancel_scope.cancel()
            late = sum(delay > LATE for delay in delays)
            print(f"{what}: {max(delays) * 1000:.0f} ms at most; {late} of {len(delays)} late")


def main() -> None:
    """Measure on both kinds of loop."""
    size = int(sys.argv[1] if len(sys.argv) > 1 else 1024) * MIB
    for backend in ("asyncio", "trio"):
        with tempfile.TemporaryDirectory(prefix="dorky-heartbeat-") as place:
            os.environ["HOME"] = place
            print(f"{backend}, load {os.getloadavg()[0]:.1f}")
            anyio.run(measure, Path(place), size, backend=backend)


if __name__ == "__main__":
    main()
