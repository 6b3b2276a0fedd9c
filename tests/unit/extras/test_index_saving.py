"""Packages are saved from an index: by URL and hash, all or none."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import wheels
from wheels import Index, package

from dorky import errors
from dorky.extras.index import locks, records, saving, transfer, web
from dorky.extras.index.depot import Depot, Package
from dorky.extras.index.locks import Wanted
from dorky.extras.index.storage import Directory

LONG_AGO = datetime(2019, 5, 6, 7, 8, 9, 123456, timezone.utc)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """Two projects; the older version of one is yanked."""
    made = tmp_path / "made"
    with wheels.index_server(tmp_path / "upstream") as found:
        found.depot.add(
            [
                package(wheels.wheel(made, "acme-app", "1.0", ["acme-core"])),
                package(wheels.wheel(made), upload_time=LONG_AGO),
                package(wheels.wheel(made, version="2.0")),
                package(wheels.sdist(made, version="2.0")),
                package(wheels.wheel(made, version="2.0", tag="cp312-cp312-win_amd64")),
            ]
        )
        found.depot.yank("acme-core", "1.0", "leaks")
        monkeypatch.setenv("UV_DEFAULT_INDEX", found.url)
        monkeypatch.setenv("UV_PYTHON", sys.executable)  # looking for others takes long
        monkeypatch.setattr(web.time, "sleep", lambda _: None)
        yield found


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    return Depot(Directory(tmp_path / "depot"))


def lock(tmp_path: Path, index: Index, *filenames: str, **other: object) -> Path:
    """A lock of files of the index; ``other`` fields of theirs replace the true ones."""
    lines = ['lock-version = "1.0"', 'created-by = "a test"']
    for filename in filenames:
        entry = index.depot.entry(filename)
        about = {
            "url": f"{index.url.removesuffix('simple/')}files/{entry.name}/{filename}",
            "size": entry.size,
            "hashes": {"sha256": entry.sha256},
            **other,
        }
        written = ", ".join(
            f"{key} = {{sha256 = {json.dumps(value['sha256'])}}}"
            if isinstance(value, dict)
            else f"{key} = {json.dumps(value)}"
            for key, value in about.items()
        )
        lines += ["[[packages]]", f'name = "{entry.name}"', f"wheels = [{{ {written} }}]"]
    path = tmp_path / "pylock.toml"
    path.write_text("\n".join(lines))
    return path


WHEEL = "acme_core-1.0-py3-none-any.whl"
NEW = "acme_core-2.0-py3-none-any.whl"


def test_a_lock_is_fetched_with_what_the_index_says(
    tmp_path: Path, index: Index, depot: Depot
) -> None:
    done = saving.save(depot, Wanted(), lock=lock(tmp_path, index, WHEEL, NEW))
    assert (done.added, done.kept) == ((WHEEL, NEW), ())
    entry = depot.entry(WHEEL)
    assert entry.upload_time == LONG_AGO
    assert entry.yanked == "leaks"
    assert entry.source == f"{index.url}acme-core/"
    assert entry.sha256 == index.depot.entry(WHEEL).sha256
    index.log.clear()
    again = saving.save(depot, Wanted(), lock=lock(tmp_path, index, WHEEL, NEW))
    assert (again.added, again.kept, again.size) == ((), (WHEEL, NEW), 0)
    assert index.log == []


@pytest.mark.parametrize(
    "other",
    [
        {"hashes": {"sha256": "0" * 64}},
        {"size": 5},
        {"hashes": {"sha256": "0" * 64}, "size": 10**6},
    ],
)
def test_other_bytes_than_the_lock_says_are_not_kept(
    tmp_path: Path, index: Index, depot: Depot, other: dict[str, object]
) -> None:
    with pytest.raises(errors.UnexpectedFile):
        saving.save(depot, Wanted(), lock=lock(tmp_path, index, NEW, **other))
    assert depot.projects() == []


def test_all_or_nothing(tmp_path: Path, index: Index, depot: Depot) -> None:
    path = lock(tmp_path, index, WHEEL, "acme_app-1.0-py3-none-any.whl")
    index.depot.remove("acme-app")
    with pytest.raises(errors.NoSuchFile):
        saving.save(depot, Wanted(), lock=path)
    assert depot.projects() == []


def test_another_file_of_that_name_is_refused_before_anything_is_fetched(
    tmp_path: Path, index: Index, depot: Depot
) -> None:
    depot.add([package(wheels.wheel(tmp_path / "ours", version="2.0", code="ours = 1\n"))])
    index.log.clear()
    with pytest.raises(errors.PackageHeld):
        saving.save(depot, Wanted(), lock=lock(tmp_path, index, WHEEL, NEW))
    assert index.log == []


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_busy_index_is_asked_again(
    tmp_path: Path, index: Index, depot: Depot, status: int
) -> None:
    index.statuses[:] = [status] * 3
    assert saving.save(depot, Wanted(), lock=lock(tmp_path, index, NEW)).added == (NEW,)
    index.statuses[:] = [status] * 100
    with pytest.raises(errors.ServerBusy):
        saving.save(depot, Wanted(), lock=lock(tmp_path, index, WHEEL))


def test_an_index_that_refuses_is_not_asked_again(
    tmp_path: Path, index: Index, depot: Depot
) -> None:
    path = lock(tmp_path, index, NEW)
    index.statuses[:] = [403] * 100
    index.log.clear()
    with pytest.raises(errors.ForbiddenError):
        saving.save(depot, Wanted(), lock=path)
    assert len(index.log) == 1


LOCK = 'lock-version = "1.0"\n'
PACKAGE = f'{LOCK}[[packages]]\nname = "a"\n'


@pytest.mark.parametrize(
    "text",
    [
        *("", "x = ", 'lock-version = "2.0"', "[[packages]]", f"{LOCK}packages = 3"),
        f'{PACKAGE}[packages.vcs]\ntype = "git"',
        f'{PACKAGE}[packages.sdist]\nurl = "https://x/a-1.zip"',
        f'{PACKAGE}wheels = [{{url = "https://x/a-1-py3-none-any.whl"}}]',
        f'{PACKAGE}wheels = [{{path = "a-1-py3-none-any.whl"}}]',
    ],
)
def test_bad_locks_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pylock.toml"
    path.write_text(text)
    with pytest.raises(errors.BadLock):
        locks.read(path, sdists=False)


@pytest.mark.parametrize("url", ["https://x/b-1-py3-none-any.whl", "https://x/passwd", "file:///"])
def test_a_lock_names_files_of_its_projects(tmp_path: Path, url: str) -> None:
    path = tmp_path / "pylock.toml"
    path.write_text(f'{PACKAGE}wheels = [{{url = "{url}", hashes = {{sha256 = "{"0" * 64}"}}}}]')
    with pytest.raises(errors.BadPackage):
        locks.read(path, sdists=False)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("manylinux_2_28_x86_64", "x86_64-manylinux_2_28"),
        ("manylinux2014_aarch64", "aarch64-manylinux2014"),
        ("win_amd64", "x86_64-pc-windows-msvc"),
        ("macosx_11_0_arm64", "aarch64-apple-darwin"),
        ("linux", "linux"),
    ],
)
def test_platforms_are_named_as_wheels_name_them(given: str, name: str) -> None:
    assert locks.platform_name(given) == name


# --- credentials -----------------------------------------------------------------------------


def test_a_password_goes_to_its_server_alone() -> None:
    place = web.place_of("https://ana:p%40ss@x.example:8443/simple/#a")
    assert place == ("https://x.example:8443/simple/", "Basic YW5hOnBAc3M=")
    places = saving._Places("https://ana:secret@x.example/simple/")
    assert places.place("https://x.example/files/a.whl").authorization
    for other in ("https://y.example/a.whl", "http://x.example/a", "https://x.example:1/a"):
        assert not places.place(other).authorization


@pytest.mark.parametrize("url", ["ftp://x/", "x", "https://", "https://x:port/", "file:///etc"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(errors.BadURL):
        web.place_of(url)


def test_a_token_is_not_sent_without_tls() -> None:
    with pytest.raises(errors.BadURL, match="TLS"):
        web.place_of("http://x.example/", "secret")
    assert web.place_of("http://127.0.0.1:8080/", "secret").authorization == "Bearer secret"


def test_an_index_with_a_password(tmp_path: Path, depot: Depot) -> None:
    with wheels.index_server(tmp_path / "upstream", password="secret") as index:
        index.depot.add([package(wheels.wheel(tmp_path))])
        host = index.url.removeprefix("http://")
        wanted = Wanted(["acme-core"], index_url=f"http://ana:secret@{host}")
        with pytest.raises(errors.AccessDenied, match="401"):
            saving.save(depot, Wanted(["acme-core"], index_url=index.url))
        saving.save(depot, wanted)
        entry = depot.entry("acme_core-1.0-py3-none-any.whl")
        assert entry.source == f"{index.url}acme-core/"
        assert b"secret" not in records.encode({entry.filename: entry})


def test_an_index_that_is_not_there(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(errors.Unreachable):
        saving.save(depot, Wanted(["acme-core"], index_url="http://127.0.0.1:9/simple/"))


# --- the resolver ----------------------------------------------------------------------------


def test_requirements_bring_what_they_depend_on(index: Index, depot: Depot) -> None:
    done = saving.save(depot, Wanted(["acme-app"]))
    assert done.added == ("acme_app-1.0-py3-none-any.whl", NEW)
    more = saving.save(
        depot,
        Wanted(["acme-core"], python_versions=["3.12"], platforms=["win_amd64", "linux"]),
    )
    assert (more.added, more.kept) == (("acme_core-2.0-cp312-cp312-win_amd64.whl",), (NEW,))
    assert saving.save(depot, Wanted(["acme-core"], sdists=True)).added == ("acme_core-2.0.tar.gz",)


def test_options_of_the_resolver(index: Index, depot: Depot, tmp_path: Path) -> None:
    old = Wanted(["acme-app"], dependencies=False)
    assert saving.save(depot, old).added == ("acme_app-1.0-py3-none-any.whl",)
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("acme-core<2\n")
    with pytest.raises(errors.NoSolution, match=r"acme-core<2|yanked"):
        saving.save(depot, Wanted(["acme-app"], constraints=[constraints]))
    index.depot.yank("acme-core", "1.0", undo=True)
    before = Wanted(["acme-core"], uploaded_prior_to="2020-01-01")
    assert saving.save(depot, before).added == (WHEEL,)
    with pytest.raises(errors.NoSolution, match="nothing"):
        saving.save(depot, Wanted(["nothing"]))


def test_a_wheel_that_an_index_has_taken_is_kept_as_it_is(index: Index, depot: Depot) -> None:
    """Old ones have files that their RECORD does not list, and installers take them."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        text = wheels.metadata("acme-odd", "1.0")
        archive.writestr("acme_odd-1.0.dist-info/METADATA", text)
    entry = records.derive(held.getvalue(), "acme_odd-1.0-py3-none-any.whl", recorded=False)
    index.depot.add([Package(entry, held.getvalue())])
    assert saving.save(depot, Wanted(["acme-odd"])).added == (entry.filename,)


def test_a_project_of_sources_alone_is_told(index: Index, depot: Depot, tmp_path: Path) -> None:
    index.depot.add([wheels.package(wheels.sdist(tmp_path, "acme-old", "1.0"))])
    with pytest.raises(errors.OnlySources, match="acme-old has no wheel for this environment"):
        saving.save(depot, Wanted(["acme-old"]))


@pytest.mark.parametrize("kind", ["directory", "archive"])
def test_what_no_index_has_is_no_requirement(
    index: Index, depot: Depot, tmp_path: Path, kind: str
) -> None:
    path = wheels.wheel(tmp_path)
    if kind == "directory":
        path = tmp_path / "project"
        path.mkdir()
        (path / "pyproject.toml").write_text('[project]\nname = "acme-core"\nversion = "1"\n')
    with pytest.raises(errors.BadRequirement, match="acme-core") as caught:
        saving.save(depot, Wanted([f"acme-core @ {path.as_uri()}"]))
    assert "pylock" not in str(caught.value)


def test_hashes_may_be_required(index: Index, depot: Depot, tmp_path: Path) -> None:
    digest = index.depot.entry(NEW).sha256
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"acme-core==2.0 \\\n    --hash=sha256:{digest}\n")
    wanted = Wanted(files=[requirements])
    assert saving.save(depot, wanted, require_hashes=True).added == (NEW,)
    with pytest.raises(errors.HashNotNamed, match="acme_app"):
        saving.save(depot, Wanted(["acme-app"], files=[requirements]), require_hashes=True)


def test_the_first_failure_ends_the_rest() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        if number == 1:
            raise errors.UsageError("one")
        done.append(number)
        return number

    assert transfer.at_once(work, [2, 3], 2) == [2, 3]
    with pytest.raises(errors.UsageError, match="one"):
        transfer.at_once(work, [1, 4, 5, 6], 1)
    assert 6 not in done
