"""Upload the files of a directory at once, from asyncio, and publish them by one commit.

    DORKY_URL=s3://acme-vault/runs python async_batch.py results/ runs/7

The uploads share a few commits. If they take longer than the time allowed, those that are not done
are taken back: each file is there whole or not at all.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from dorky import AsyncDorkyClient, FileInfo

SECONDS = 600


async def main(folder: Path, prefix: str) -> None:
    async with AsyncDorkyClient.from_env() as client:

        async def upload(path: Path) -> FileInfo:
            target = f"{prefix}/{path.relative_to(folder).as_posix()}"
            return await client.upload(path, target, message=f"Results of {prefix}")

        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        uploads = asyncio.gather(*map(upload, paths))
        done = await asyncio.wait_for(uploads, SECONDS)
        async with client.batch(message=f"Publish {prefix}") as batch:
            index = {info.path: info.content_hash for info in done}
            await batch.upload(json.dumps(index).encode(), f"{prefix}/index.json")
            await batch.upload(prefix.encode(), "latest")
        async for info in client.list(prefix):
            print(info.path, info.size)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
