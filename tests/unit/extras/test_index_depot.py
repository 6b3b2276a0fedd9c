"""A depot: the same in a directory and in a repository."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wheels

from dorky import errors
from dorky.client import DorkyClient
from dorky.extras.index import pages, records, storage
from dorky.extras.index.depot import Depot, Package
from dorky.store.objects import Store

PREFIX = "deps/python"


@pytest.fixture(params=["directory", "repository"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> storage.Storage:
    if request.param == "directory":
        return storage.Directory(tmp_path / "depot")
    return storage.Remote(repository(tmp_path), PREFIX)


def repository(tmp_path: Path) -> DorkyClient:
    return DorkyClient.create(str(tmp_path / "vault"), unencrypted=True)


@pytest.fixture
def depot(place: storage.Storage) -> Depot:
    return Depot(place)


def package(path: Path) -> Package:
    return Package(records.derive(path, path.name), path)


Add = Callable[..., Path]


@pytest.fixture
def add(depot: Depot, tmp_path: Path) -> Add:
    def made(version: str = "1.0", **how: object) -> Path:
        path = wheels.wheel(tmp_path / "made", version=version, **how)  # type: ignore[arg-type]
        depot.add([package(path)])
        return path

    return made


def test_an_empty_depot_holds_nothing(depot: Depot) -> None:
    assert depot.projects() == []
    for missing in (
        lambda: depot.project("a"),
        lambda: depot.etag("a"),
        lambda: depot.open("a-1.tar.gz"),
        lambda: depot.yank("a", "1"),
        lambda: depot.remove("a"),
        lambda: depot.set_status("a", "archived"),
    ):
        with pytest.raises(errors.NoSuchPackage):
            missing()


def test_a_wheel_and_an_sdist_of_one_version_are_kept(depot: Depot, tmp_path: Path) -> None:
    paths = [wheels.wheel(tmp_path), wheels.sdist(tmp_path), wheels.wheel(tmp_path, version="1.10")]
    paths.append(wheels.wheel(tmp_path, version="1.9"))
    added = depot.add([package(path) for path in paths])
    assert {entry.filename for entry in added} == {path.name for path in paths}
    found = depot.project("Acme_Core")
    assert depot.projects() == [found.name] == ["acme-core"]
    assert found.versions == ("1.0", "1.9", "1.10")
    assert [entry.filename for entry in found.files] == [
        *("acme_core-1.0-py3-none-any.whl", "acme_core-1.0.tar.gz"),
        *("acme_core-1.9-py3-none-any.whl", "acme_core-1.10-py3-none-any.whl"),
    ]
    for path in paths:
        opened = depot.open(path.name)
        with opened.file as file:
            assert file.read() == path.read_bytes()
            file.seek(-2, 2)
            assert file.read() == path.read_bytes()[-2:]
        assert opened.sha256 == depot.entry(path.name).sha256
        assert b"Name: acme-core" in depot.metadata(path.name)


def test_the_layout(place: storage.Storage, add: Add) -> None:
    path = add()
    assert [*place.sizes("python/acme-core")] == ["1.0.json"]
    assert [*place.sizes("files/acme-core")] == [path.name]
    assert [*json.loads(place.read("python/acme-core/1.0.json"))] == [path.name]


def test_the_same_file_again_changes_nothing(depot: Depot, add: Add) -> None:
    path = add()
    before = depot.project("acme-core")
    assert depot.add([package(path)]) == ()
    assert depot.project("acme-core") == before


def test_other_content_under_a_name_is_refused_and_nothing_is_added(
    depot: Depot, add: Add, tmp_path: Path
) -> None:
    add()
    before = depot.project("acme-core")
    other = wheels.wheel(tmp_path / "other", code="x = 2\n")
    new = wheels.wheel(tmp_path / "other", version="2.0")
    with pytest.raises(errors.PackageHeld, match=other.name):
        depot.add([package(new), package(other)])
    with pytest.raises(errors.PackageHeld):  # in one call, too
        depot.add([package(new), package(wheels.wheel(tmp_path / "c", version="2.0", code="3"))])
    assert depot.project("acme-core") == before


def test_a_yanked_version(depot: Depot, add: Add) -> None:
    add("1.0")
    add("2.0")
    first = depot.etag("acme-core")
    found = depot.yank("acme-core", "1.0", "leaks")
    assert [entry.yanked for entry in found.files] == ["leaks", False]
    assert found.etag == depot.etag("acme-core") != first
    assert [entry.yanked for entry in depot.yank("acme-core", "1.0").files] == [True, False]
    undone = depot.yank("acme-core", "1.0", undo=True)
    assert undone.etag == first
    with pytest.raises(errors.NoSuchPackage):
        depot.yank("acme-core", "3")


def test_a_version_is_removed(depot: Depot, place: storage.Storage, add: Add) -> None:
    first, second = add("1.0"), add("2.0")
    assert depot.remove("acme-core", "1.0").files == (first.name,)
    assert depot.project("acme-core").versions == ("2.0",)
    assert [*place.sizes("files/acme-core")] == [second.name]
    planned = depot.plan_removal("acme-core")
    assert (planned.done, planned.size) == (False, second.stat().st_size)
    removed = depot.remove("acme-core")
    assert (removed.files, removed.done) == ((second.name,), True)
    assert depot.projects() == []
    assert place.directories("files") == []


def test_a_status_closes_a_project(depot: Depot, add: Add) -> None:
    path = add()
    depot.set_status("acme-core", "archived", "use acme-next")
    with pytest.raises(errors.ProjectClosed, match="archived"):
        add("2.0")
    assert depot.add([package(path)]) == ()
    depot.set_status("acme-core", "deprecated")
    add("2.0")
    quarantined = depot.set_status("acme-core", "quarantined")
    assert json.loads(pages.project_page(quarantined))["files"] == []
    assert ".whl" not in pages.project_page_html(quarantined).decode()


def test_the_etag_is_the_same_in_both_places(tmp_path: Path) -> None:
    client = repository(tmp_path)
    depots = [Depot(storage.Directory(tmp_path / "d")), Depot(storage.Remote(client, PREFIX))]
    made = package(wheels.wheel(tmp_path))
    for depot in depots:
        depot.add([made])
    assert depots[0].etag("acme-core") == depots[1].etag("acme-core")


def test_a_pinned_client_sees_its_version(tmp_path: Path) -> None:
    client = repository(tmp_path)
    depot = Depot(storage.Remote(client, PREFIX))
    depot.add([package(wheels.wheel(tmp_path))])
    pinned = Depot(storage.Remote(client.at(next(client.log()).version), PREFIX))
    depot.add([package(wheels.wheel(tmp_path, version="2.0"))])
    assert pinned.project("acme-core").versions == ("1.0",)
    with pytest.raises(errors.ReadOnlyClient):
        pinned.add([package(wheels.wheel(tmp_path, version="3.0"))])


def test_writers_at_the_same_time_lose_nothing(place: storage.Storage, tmp_path: Path) -> None:
    """All write the records of one version."""
    tags = [f"cp3{n}-abi3-any" for n in range(7, 13)]
    made = [package(wheels.wheel(tmp_path, tag=tag)) for tag in tags]
    failed: list[BaseException] = []

    def add(one: Package) -> None:
        try:
            Depot(place).add([one])
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=add, args=[one]) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed
    assert len(Depot(place).project("acme-core").files) == len(tags)


# --- what others have written ----------------------------------------------------------------


def test_a_file_that_was_swapped_is_not_opened(
    depot: Depot, place: storage.Storage, add: Add
) -> None:
    path = add()
    for content in (b"shorter", None):
        place.change(lambda _, c=content: {f"files/acme-core/{path.name}": c}, "swap")  # type: ignore[misc]
        with pytest.raises(errors.BadRecord):
            depot.open(path.name)


def test_links_in_a_directory_are_not_followed(tmp_path: Path) -> None:
    depot = Depot(storage.Directory(tmp_path / "depot"))
    path = wheels.wheel(tmp_path)
    depot.add([package(path)])
    held = tmp_path / "depot/files/acme-core"
    (held / path.name).unlink()
    (held / path.name).symlink_to(path)
    with pytest.raises(errors.BadRecord, match="link"):
        depot.open(path.name)
    held.rename(tmp_path / "elsewhere")
    held.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.BadRecord, match="link"):
        depot.open(path.name)
    with pytest.raises(errors.BadRecord, match="link"):
        depot.add([package(wheels.wheel(tmp_path, version="2.0"))])
    assert sorted((tmp_path / "elsewhere").iterdir()) == [tmp_path / "elsewhere" / path.name]
    (tmp_path / "depot/python").rename(tmp_path / "python")
    (tmp_path / "depot/python").symlink_to(tmp_path / "python")
    with pytest.raises(errors.BadRecord, match="link"):
        depot.projects()


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    depot = Depot(storage.Directory(tmp_path / "depot"))
    made = package(wheels.wheel(tmp_path))
    with pytest.raises(errors.DiskError):
        depot.add([made, Package(package(wheels.sdist(tmp_path)).entry, tmp_path / "gone")])
    assert not [path for path in (tmp_path / "depot").rglob("*") if path.is_file()]


# --- pages -----------------------------------------------------------------------------------


def test_the_pages(depot: Depot, tmp_path: Path) -> None:
    good = wheels.wheel(tmp_path, version="1.0+a.1", requires_python=">=3.9,<4")
    old = wheels.sdist(tmp_path, version="0.9", metadata_version="2.1")
    depot.add([package(good), package(old)])
    depot.yank("acme-core", "0.9", '"<b>')
    project = depot.project("acme-core")
    page = json.loads(pages.project_page(project))
    assert page["meta"] == {"api-version": "1.4"}
    assert page["name"] == "acme-core"
    assert page["versions"] == ["0.9", "1.0+a.1"]
    assert page["project-status"] == {"status": "active"}
    yanked, wheel = page["files"]
    entry = depot.entry(good.name)
    assert wheel == {
        "filename": good.name,
        "url": "../../files/acme-core/acme_core-1.0%2Ba.1-py3-none-any.whl",
        "hashes": {"sha256": entry.sha256},
        "size": good.stat().st_size,
        "upload-time": entry.upload_time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "requires-python": ">=3.9,<4",
        "core-metadata": entry.core_metadata,
        "yanked": False,
    }
    assert yanked["core-metadata"] is False
    assert yanked["yanked"] == '"<b>'
    text = pages.project_page_html(project).decode()
    assert f"acme_core-1.0%2Ba.1-py3-none-any.whl#sha256={entry.sha256}" in text
    assert 'data-requires-python="&gt;=3.9,&lt;4"' in text
    metadata = f'"sha256={entry.core_metadata["sha256"]}"'
    assert f"data-core-metadata={metadata} data-dist-info-metadata={metadata}" in text
    assert 'data-yanked="&quot;&lt;b&gt;"' in text
    assert '<meta name="pypi:project-status" content="active">' in text
    listed = json.loads(pages.project_list(depot.projects()))
    assert listed["projects"] == [{"name": "acme-core"}]
    assert (
        '<a href="acme-core/">acme-core</a>' in pages.project_list_html(depot.projects()).decode()
    )


def test_a_page_costs_the_same_among_many_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large directory the parts that lead to the project are read, and no others."""
    read: list[str] = []
    before = Store.read

    def counted(self: Store, object_id: str, **how: Any) -> bytes:
        read.append(object_id)
        return before(self, object_id, **how)

    costs = []
    for many in (20, 560):
        client = DorkyClient.create(str(tmp_path / f"vault{many}"), unencrypted=True)
        paths = [wheels.wheel(tmp_path / "made", f"acme-{n}") for n in range(many)]
        Depot(storage.Remote(client, PREFIX)).add([package(path) for path in paths])
        fresh = Depot(storage.Remote(DorkyClient(client.url, unencrypted=True), PREFIX))
        with monkeypatch.context() as patch:
            patch.setattr(Store, "read", counted)
            for name in ("acme-7", "acme-9"):
                read.clear()
                assert fresh.project(name).versions == ("1.0",)
                costs.append(len(read))
    first, second, *others = costs
    assert others[0] <= first + 2
    assert others[1] <= second + 2
