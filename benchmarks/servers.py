"""The bucket: rclone over a directory, SeaweedFS, or an emulator of Google's; behind a proxy."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACCESS_KEY, SECRET_KEY = "AKIABENCHBENCHBENCH1", "secret-of-the-benchmarks"
BUCKET = "acme-bench"


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        endpoint: Where it listens.
        conditions: Whether it honours conditional writes.
        clear: Deletes what is in the bucket.
        scheme: That of its URLs.
    """

    endpoint: str
    conditions: bool
    clear: Callable[[], None]
    scheme: str = "s3"


@contextlib.contextmanager
def rclone_server(rclone: str, directory: Path) -> Iterator[Server]:
    """Serve a fresh bucket over S3 by rclone.

    It checks keys, and accepts conditional headers and ignores them.

    Args:
        rclone: The program.
        directory: Where the bucket's data go.
    """

    def clear() -> None:
        for prefix in (data / BUCKET).iterdir():
            shutil.rmtree(prefix)

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
                yield Server(found[0], False, clear)
                return
            time.sleep(0.02)
        raise RuntimeError(f"rclone did not start: {output.read_text()}")
    finally:
        process.kill()  # asked politely, it waits for idle connections
        process.wait()


@contextlib.contextmanager
def seaweedfs_server(weed: str, directory: Path) -> Iterator[Server]:
    """Serve a fresh bucket over S3 by SeaweedFS, which honours conditional headers.

    Args:
        weed: The program.
        directory: Where the bucket's data go.
    """
    import boto3

    data, output, keys = directory / "data", directory / "output", directory / "keys.json"
    data.mkdir(parents=True)
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    identity = {"name": "bench", "credentials": credentials, "actions": ["Admin"]}
    keys.write_text(json.dumps({"identities": [identity]}))
    parts = ("master", "volume", "filer", "s3")
    names = [f"{part}.port{kind}" for part in parts for kind in ("", ".grpc")]
    ports = dict(zip(names, _unused_ports(len(names)), strict=True))
    options = [
        *("server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=0"),
        *("-s3", f"-s3.config={keys}", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-master.telemetry=false", "-master.volumeSizeLimitMB=1024"),
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )

    def clear() -> None:
        client.delete_bucket(Bucket=BUCKET)  # with all that is in it: its volumes go
        client.create_bucket(Bucket=BUCKET)

    with output.open("wb") as stream:
        process = subprocess.Popen(
            [weed, *options],
            cwd=directory,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_it_writes(client, process, output)
        yield Server(endpoint, True, clear)
    finally:
        client.close()
        process.kill()
        process.wait()


# The emulator serves one connection at a time, and writes the metadata of all objects each time.
_EMULATOR = """
import http.server, sys
http.server.HTTPServer = http.server.ThreadingHTTPServer
from gcp_storage_emulator import storage
from gcp_storage_emulator.__main__ import main
storage.Storage._write_config_to_file = lambda self: None
sys.exit(main())
"""


@contextlib.contextmanager
def gcs_server(emulator: str, directory: Path) -> Iterator[Server]:
    """Emulate Google Cloud Storage, in memory and in Python, for libraries that know no S3.

    It accepts preconditions and ignores them.

    Args:
        emulator: Its program, beside which its Python is.
        directory: Where its output goes.
    """
    from urllib.request import urlopen

    python = Path(emulator).with_name("python")

    directory.mkdir(parents=True)
    (port,) = _unused_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    options = ["--host=127.0.0.1", f"--port={port}", "--in-memory", f"--default-bucket={BUCKET}"]

    def clear() -> None:
        urlopen(f"{endpoint}/wipe?keep-buckets=true", timeout=60).close()

    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [python, "-c", _EMULATOR, "start", *options],
            cwd=directory,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                yield Server(endpoint, False, clear, "gs")
                return
            time.sleep(0.1)
        raise RuntimeError(f"it did not start: {(directory / 'output').read_text()[-2000:]}")
    finally:
        process.kill()
        process.wait()


def _wait_until_it_writes(client: Any, process: subprocess.Popen[bytes], output: Path) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(BotoCoreError, ClientError):
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="first", Body=b"x")
            return
        time.sleep(0.2)
    raise RuntimeError(f"SeaweedFS did not start: {output.read_text()[-2000:]}")


def _unused_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def bucket_environment(scheme: str, endpoint: str) -> dict[str, str]:
    """What makes tools find the bucket with their own means."""
    if scheme == "gs":
        return {"STORAGE_EMULATOR_HOST": endpoint}
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
