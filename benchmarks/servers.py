"""The bucket: rclone's S3 server over a directory, seen through a proxy."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "AKIABENCHBENCHBENCH1", "secret-of-the-benchmarks"
BUCKET = "acme-bench"


@contextlib.contextmanager
def bucket_server(rclone: str, directory: Path) -> Iterator[str]:
    """Serve a fresh bucket over S3; yields the endpoint.

    It checks keys, and accepts conditional headers and ignores them.

    Args:
        rclone: The program.
        directory: Where the bucket's data go.
    """
    data, output = directory / "data", directory / "output"
    # Before it starts: it caches directories, and without the cache it takes seconds a request.
    (data / BUCKET).mkdir(parents=True)
    keys = f"--auth-key={ACCESS_KEY},{SECRET_KEY}"
    options = ["serve", "s3", keys, "--addr=127.0.0.1:0", "--config="]
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [rclone, *options, "--vfs-cache-mode=off", str(data)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is for us, who stop it when nothing needs it
        )
    try:
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            if found := re.search(r"http://127\.0\.0\.1:\d+", output.read_text()):
                yield found[0]
                return
            time.sleep(0.02)
        raise RuntimeError(f"rclone did not start: {output.read_text()}")
    finally:
        process.kill()  # asked politely, it waits for idle connections
        process.wait()


def s3_environment(endpoint: str) -> dict[str, str]:
    """What makes tools find the bucket with their own means."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
