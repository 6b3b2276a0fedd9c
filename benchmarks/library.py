"""One job done by one Python library, in a process of its own: `python library.py LIBRARY JOB`.

It works in a project's directory: ``data/`` goes to the bucket, or comes from it. ``read`` writes
1 KiB from the middle of the only file to ``piece``. It imports nothing of the benchmarks, since
DVC's environment is another one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

DATA = Path("data")
AT_ONCE = 32
"""How many transfers are under way at once, with every library that lets one choose."""
MIDDLE, PIECE = "BENCH_MIDDLE", 1024
BUCKET, PREFIX = "BENCH_BUCKET", "BENCH_PREFIX"
"""The variables that name the offset to read at, the bucket, and the place in it."""


def files() -> list[Path]:
    """Return the files to send."""
    return [path for path in sorted(DATA.rglob("*")) if path.is_file()]


def key(path: Path) -> str:
    return f"{os.environ[PREFIX]}/{path.as_posix()}"


def placed(name: str) -> Path:
    """Return where an object goes, in a directory that exists."""
    path = Path(name.removeprefix(os.environ[PREFIX] + "/"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def keep(piece: bytes) -> None:
    Path("piece").write_bytes(piece)


class DorkyClient:
    """The nearest .dorkyrc names the repository."""

    def __init__(self) -> None:
        import dorky

        self.client = dorky.DorkyClient(max_concurrency=AT_ONCE)

    def upload(self) -> None:
        self.client.upload_folder(DATA, "data")

    def download(self) -> None:
        self.client.snapshot(".")

    def read(self) -> None:
        at = int(os.environ[MIDDLE])
        keep(self.client.read("data/large.bin", start=at, end=at + PIECE))


class Boto3:
    def __init__(self) -> None:
        import boto3
        from boto3.s3.transfer import TransferConfig, create_transfer_manager
        from botocore.config import Config

        self.s3 = boto3.client("s3", config=Config(max_pool_connections=AT_ONCE))
        self.bucket = os.environ[BUCKET]
        config = TransferConfig(max_concurrency=AT_ONCE)
        self.manager = create_transfer_manager(self.s3, config)

    def upload(self) -> None:
        with self.manager:
            done = [self.manager.upload(str(path), self.bucket, key(path)) for path in files()]
            [one.result() for one in done]

    def download(self) -> None:
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=os.environ[PREFIX]
        )
        names = [item["Key"] for page in pages for item in page.get("Contents", [])]
        with self.manager:
            done = [self.manager.download(self.bucket, name, str(placed(name))) for name in names]
            [one.result() for one in done]

    def read(self) -> None:
        at = int(os.environ[MIDDLE])
        found = self.s3.get_object(
            Bucket=self.bucket,
            Key=key(DATA / "large.bin"),
            Range=f"bytes={at}-{at + PIECE - 1}",
        )
        keep(found["Body"].read())


class Obstore:
    def __init__(self) -> None:
        import obstore
        from obstore.store import S3Store

        self.obstore = obstore
        endpoint = os.environ["AWS_ENDPOINT_URL"]
        self.store = S3Store(
            os.environ[BUCKET],
            endpoint=endpoint,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def upload(self) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            [*pool.map(lambda path: self.obstore.put(self.store, key(path), path), files())]

    def download(self) -> None:
        def get(name: str) -> None:
            with placed(name).open("wb") as file:
                for block in self.obstore.get(self.store, name).stream():
                    file.write(block)

        listed = self.obstore.list(self.store, prefix=os.environ[PREFIX])
        names = [item["path"] for page in listed for item in page]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            [*pool.map(get, names)]

    def read(self) -> None:
        at = int(os.environ[MIDDLE])
        name = key(DATA / "large.bin")
        keep(bytes(self.obstore.get_range(self.store, name, start=at, length=PIECE)))


class TransferManager:
    """Google's."""

    def __init__(self) -> None:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage
        from google.cloud.storage import transfer_manager

        self.manager = transfer_manager
        self.how = {"max_workers": AT_ONCE, "worker_type": transfer_manager.THREAD}
        client = storage.Client(project="bench", credentials=AnonymousCredentials())
        self.bucket = client.bucket(os.environ[BUCKET])

    def upload(self) -> None:
        self._see(
            self.manager.upload_many_from_filenames(
                self.bucket,
                [path.as_posix() for path in files()],
                blob_name_prefix=os.environ[PREFIX] + "/",
                **self.how,
            )
        )

    def download(self) -> None:
        names = [blob.name for blob in self.bucket.list_blobs(prefix=os.environ[PREFIX])]
        pairs = [(self.bucket.blob(name), str(placed(name))) for name in names]
        self._see(self.manager.download_many(pairs, **self.how))

    def read(self) -> None:
        at = int(os.environ[MIDDLE])
        blob = self.bucket.blob(key(DATA / "large.bin"))
        keep(blob.download_as_bytes(start=at, end=at + PIECE - 1))

    @staticmethod
    def _see(results: list[object]) -> None:
        for result in results:
            if isinstance(result, BaseException):
                raise result


class DVC:
    """Its remote is in the project's configuration."""

    def upload(self) -> None:
        from dvc.repo import Repo

        with Repo() as repo:
            repo.add([str(DATA)])
            repo.push()

    def download(self) -> None:
        from dvc.repo import Repo

        with Repo() as repo:
            repo.pull()

    def read(self) -> None:
        import dvc.api

        with dvc.api.open("data/large.bin", mode="rb") as file:
            file.seek(int(os.environ[MIDDLE]))
            keep(file.read(PIECE))


LIBRARIES = {
    "DorkyClient": DorkyClient,
    "boto3": Boto3,
    "obstore": Obstore,
    "transfer_manager": TransferManager,
    "dvc.api": DVC,
}


def main() -> None:
    """Do one job."""
    library = LIBRARIES[sys.argv[1]]()
    jobs: dict[str, Callable[[], None]] = {
        "upload": library.upload,
        "download": library.download,
        "read": library.read,
    }
    jobs[sys.argv[2]]()


if __name__ == "__main__":
    main()
