"""`python -m benchmarks.indexes [PROJECTS [NAME…]]`: indexes of Python packages, doing the same.

dorky serves an encrypted repository in a directory; its peers serve files in the clear. They run
one after the other, each with the same projects. A cold page is the first after the start. Two
times are told: the client's, and the processor time of the server, which others disturb less.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from benchmarks.tools import find
from dorky.client import DorkyClient
from dorky.extras.index.depot import Depot, Package
from dorky.extras.index.records import derive
from dorky.extras.index.storage import Remote

ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
LARGE = 20 << 20
UPLOADS = 15
PATIENCE = 120.0


def wheel(name: str, version: str, size: int = 0) -> tuple[str, bytes]:
    """Make a wheel; return its filename and its bytes."""
    base = name.replace("-", "_")
    about = f"{base}-{version}.dist-info"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("data.bin", os.urandom(size))
        listed = [*archive.namelist(), f"{about}/RECORD"]
        archive.writestr(f"{about}/RECORD", "".join(f"{path},,\n" for path in listed))
    return f"{base}-{version}-py3-none-any.whl", made.getvalue()


class Server:
    """A running index.

    Attributes:
        page: The path of a project's page, with ``{}`` for its name.
        legacy: The path of uploads; empty if it takes none.
    """

    def __init__(self, command: list[str], page: str, legacy: str, home: Path) -> None:
        self.port = _free()
        self.page = page
        self.legacy = legacy
        words = [word.replace("PORT", str(self.port)) for word in command]
        self.process = subprocess.Popen(
            words,
            env={**os.environ, "HOME": str(home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.1)
        raise RuntimeError(f"{words[0]} does not listen")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()

    def busy(self) -> float:
        """Return the milliseconds that its processors have worked."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return 1000 * sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK")

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)


def _free() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def get(client: http.client.HTTPConnection, path: str, **headers: str) -> tuple[int, bytes, str]:
    """Return what is at a path: status, body and entity tag; follow redirections."""
    for _ in range(5):
        client.request("GET", path, headers={"Accept": ACCEPT, **headers})
        answer = client.getresponse()
        body = answer.read()
        if answer.status not in {301, 302, 307, 308}:
            return answer.status, body, answer.headers.get("ETag", "")
        path = urlsplit(urljoin(path, answer.headers["Location"])).path
    raise RuntimeError("too many redirections")


def post(client: http.client.HTTPConnection, path: str, filename: str, body: bytes) -> int:
    """Upload a file as twine does; return the status."""
    name, version = filename.split("-")[:2]
    fields = {":action": "file_upload", "name": name, "version": version, "protocol_version": "1"}
    fields |= {"filetype": "bdist_wheel", "pyversion": "py3", "metadata_version": "2.1"}
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{filename}"'
    parts += [f"{head}\r\n\r\n".encode(), body, f"\r\n--{boundary}--\r\n".encode()]
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Authorization": "Basic cm9vdDo=",  # root, without a password, as devpi has it
    }
    client.request("POST", path, b"".join(parts), headers)
    answer = client.getresponse()
    answer.read()
    return answer.status


class Meter:
    """Takes the time of jobs.

    Attributes:
        server: The server that does them.
        found: By job, the median of the client's milliseconds, and the server's mean; NaN for a
            job that is done once, which is too short for the clock of the processor.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.found: dict[str, tuple[float, float]] = {}

    def take(self, job: str, work: Callable[[], object], rounds: int = 1) -> None:
        """Do a job some times."""
        taken = []
        before = self.server.busy()
        for _ in range(rounds):
            begun = time.perf_counter()
            work()
            taken.append((time.perf_counter() - begun) * 1000)
        worked = (self.server.busy() - before) / rounds if rounds > 1 else float("nan")
        self.found[job] = statistics.median(taken), worked


def measure(server: Server, projects: int) -> dict[str, tuple[float, float]]:
    """Return what a server takes for each job, in milliseconds (see `Meter`)."""
    meter = Meter(server)
    last = f"p{projects - 1:05}"
    page, root = server.page.format(last), server.page.format("").replace("//", "/")
    with contextlib.closing(server.connect()) as client:
        meter.take("page, cold", lambda: get(client, page))
        _, _, tag = get(client, page)
        meter.take("page, again", lambda: get(client, page), 200)
        if tag:
            condition = {"If-None-Match": tag}
            meter.take("page, unchanged", lambda: get(client, page, **condition), 200)
        meter.take("other pages", _pages(client, server, projects), 100)
        meter.take("list, cold", lambda: get(client, root))
        meter.take("list, again", lambda: get(client, root), 10)
        _, body, _ = get(client, server.page.format("large"))
        url = _first_url(body, server.page.format("large"))
        meter.take("20 MiB file", lambda: get(client, url), 10)
        if server.legacy:
            files = iter([wheel("uploaded", f"1.{n}", 20_000) for n in range(UPLOADS)])

            def upload() -> None:
                status = post(client, server.legacy, *next(files))
                assert status in {200, 201, 303}, status

            meter.take("upload", upload, UPLOADS)
            meter.take("page after upload", lambda: get(client, page))
    server.stop()
    return meter.found


def _pages(
    client: http.client.HTTPConnection, server: Server, projects: int
) -> Callable[[], object]:
    names = iter([f"p{n * 7 % projects:05}" for n in range(100)])
    return lambda: get(client, server.page.format(next(names)))


def _first_url(body: bytes, page: str) -> str:
    if body.startswith(b"{"):
        url = json.loads(body)["files"][0]["url"]
    else:
        url = body.partition(b'href="')[2].partition(b'"')[0].decode()
    return urlsplit(urljoin(page, url)).path


# --- the indexes ----------------------------------------------------------------------------


def dorky(place: Path, files: dict[str, bytes]) -> Server:
    """Start dorky on an encrypted repository."""
    home, vault = place / "home", place / "vault"
    home.mkdir()
    os.environ["HOME"] = str(home)
    with DorkyClient.create(str(vault)) as client:
        depot = Depot(Remote(client, ".depot-storage/python"))
        depot.add([Package(derive(body, name), body) for name, body in files.items()])
    command = [sys.executable, "-m", "dorky", "python", "serve", "--remote", str(vault)]
    options = ["--port", "PORT", "--write", "--insecure", "-q"]
    return Server([*command, *options], "/python/simple/{}/", "/python/legacy/", home)


def pypiserver(place: Path, files: dict[str, bytes]) -> Server:
    """Start pypiserver on a directory."""
    for name, body in files.items():
        (place / name).write_bytes(body)
    command = [find("pypi-server"), "run", "-p", "PORT", "-i", "127.0.0.1", "-a", ".", "-P", "."]
    return Server([*command, "--disable-fallback", str(place)], "/simple/{}/", "/", place)


def simple_repository(place: Path, files: dict[str, bytes]) -> Server:
    """Start simple-repository-server on a directory; it takes no uploads."""
    for name, body in files.items():
        directory = place / name.split("-", maxsplit=1)[0].replace("_", "-")
        directory.mkdir(exist_ok=True)
        (directory / name).write_bytes(body)
    command = [find("simple-repository-server"), "--port", "PORT", "--host", "127.0.0.1"]
    return Server([*command, str(place)], "/simple/{}/", "", place)


def devpi(place: Path, files: dict[str, bytes]) -> Server:
    """Start devpi-server, and upload to an index without a base."""
    directory = ["--serverdir", str(place)]
    subprocess.run(
        [find("devpi-init"), *directory, "--no-root-pypi"], check=True, capture_output=True
    )
    command = [find("devpi-server"), *directory, "--port", "PORT", "--host", "127.0.0.1"]
    server = Server(command, "/root/test/+simple/{}/", "/root/test/", place)
    with contextlib.closing(server.connect()) as client:
        headers = {"Content-Type": "application/json", "Authorization": "Basic cm9vdDo="}
        login = json.dumps({"user": "root", "password": ""})
        client.request("POST", "/+login", login, {"Content-Type": "application/json"})
        told = json.loads(client.getresponse().read())
        pair = f"root:{told['result']['password']}".encode()
        headers["X-Devpi-Auth"] = base64.b64encode(pair).decode()
        index = json.dumps(
            {"bases": [], "volatile": True, "type": "stage", "acl_upload": [":ANONYMOUS:"]}
        )
        client.request("PUT", "/root/test", index, headers)
        client.getresponse().read()
        for name, body in files.items():
            assert post(client, "/root/test/", name, body) == 200
    server.stop()  # a cold page is the first of a server that has just started
    return Server(command, server.page, server.legacy, place)


INDEXES = {
    "dorky": ("dorky", dorky),
    "pypiserver": ("pypi-server", pypiserver),
    "simple-repository-server": ("simple-repository-server", simple_repository),
    "devpi-server": ("devpi-server", devpi),
}


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="dorky-indexes-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def main() -> None:
    """Measure all indexes that are installed."""
    projects = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    chosen = sys.argv[2:] or [*INDEXES]
    files = dict(wheel(f"p{n:05}", "1.0", 1000) for n in range(projects))
    files |= dict([wheel("large", "1.0", LARGE)])
    measured: dict[str, dict[str, tuple[float, float]]] = {}
    for name in chosen:
        program, start = INDEXES[name]
        if name != "dorky" and not find(program):
            print(f"{name}: not found (dev.py bench --peers installs it)")
            continue
        with _directory() as place:
            begun = time.perf_counter()
            server = start(place, files)
            print(f"{name}: filled in {time.perf_counter() - begun:.1f} s", flush=True)
            measured[name] = measure(server, projects)
    jobs = [*dict.fromkeys(job for found in measured.values() for job in found)]
    print(f"\n{projects:,} projects; milliseconds of the client / of the server's processors")
    print(" " * 18 + "".join(f"{name:>26}" for name in measured))
    for job in jobs:
        cells = [_cell(found.get(job)) for found in measured.values()]
        print(f"{job:18}" + "".join(f"{cell:>26}" for cell in cells))


def _cell(times: tuple[float, float] | None) -> str:
    if times is None:
        return "-"
    client, worked = times
    return f"{client:.1f} / {'-' if worked != worked else f'{worked:.1f}'}"


if __name__ == "__main__":
    main()
