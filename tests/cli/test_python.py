"""Python packages from the command line."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wheels
from credentials import self_signed
from machines import Machine
from servers import Canned, Remote, stub_server

from dorky.client import DorkyClient
from dorky.extras.index import storage
from dorky.extras.index.depot import Depot


def kept(machine: Machine, *paths: Path, directory: str = ".depot-storage/python") -> Depot:
    """Put files into a machine's depot."""
    return wheels.depot_of(machine.project / directory, *paths)


def test_a_depot_is_looked_at_and_changed(ana: Machine, tmp_path: Path) -> None:
    assert "No packages in .depot-storage/python." in ana("python", "list").err
    kept(ana, wheels.wheel(tmp_path, requires_python=">=3.9"), wheels.sdist(tmp_path, version="2"))
    assert ana("python", "list").out.startswith("acme-core 2  (2 files, ")
    ana("python", "yank", "Acme.Core==1.0", "--reason", "loses data")
    ana("python", "status", "acme-core", "archived", "--reason", "use acme-next")
    said = ana("python", "show", "acme_core").out
    assert said.startswith("acme-core: archived (use acme-next)\n")
    assert "acme_core-1.0-py3-none-any.whl  Python >=3.9  yanked (loses data)" in said
    ana("python", "yank", "acme-core==1.0", "--undo")
    assert "yanked" not in ana("python", "show", "acme-core").out
    assert "nothing was removed" in ana("python", "remove", "acme-core==2", code=5).error
    said = ana("python", "remove", "acme-core==2", "--dry-run")
    assert "Would remove 1 file of acme-core" in said.out
    assert "acme_core-2.tar.gz" in said.out
    ana("python", "remove", "acme-core==2", "--yes")
    assert ana("python", "show", "acme-core", "--json").json["versions"] == ["1.0"]


def test_the_directory_is_chosen(ana: Machine, tmp_path: Path) -> None:
    kept(ana, wheels.wheel(tmp_path), directory="here")
    assert "acme-core" in ana("python", "list", "--dir", "here").out
    ana.env["DEPOT_PYTHON_DIR"] = "here"
    assert "acme-core" in ana("python", "list").out
    assert "acme-core" not in ana("python", "list", "--dir", "there").out


def test_what_can_not_be_done(ana: Machine, tmp_path: Path) -> None:
    kept(ana, wheels.wheel(tmp_path))
    said = ana("python", "show", "nothing", code=4)
    assert "There is no Python package nothing in .depot-storage/python" in said.error
    assert "dorky python list" in said.err
    ana("python", "yank", "acme-core==3", code=4)
    ana("python", "remove", "nothing", code=4)
    said = ana("python", "save", "dist/acme_core-9-py3-none-any.whl", code=4)
    assert "dist/acme_core-9-py3-none-any.whl" in said.error
    said = ana("python", "push", "http://example.org/simple/", "--token", "x", code=2)
    assert "hint: name the index by https://" in said.err
    said = ana("python", "push", "http://127.0.0.1:9/", "--dir", "empty")
    assert "No packages in empty." in said.err
    for wrong in ("acme-core", "acme-core==", "acme-core==what", "../x==1"):
        ana("python", "yank", wrong, code=2)
    ana("python", "remove", "acme-core==", code=2)
    ana("python", "yank", "acme-core==1.0", "--undo", "--reason", "x", code=2)
    ana("python", "status", "acme-core", "lost", code=2)


def test_without_the_extra_it_is_named(ana: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("dorky.extras.index.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "packaging.utils", None)
    said = ana("python", "list", code=3)
    assert "needs the package packaging" in said.error
    assert "pip install 'dorky-client[python]'" in said.err


def test_a_reason_obeys_no_terminal(ana: Machine, tmp_path: Path) -> None:
    kept(ana, wheels.wheel(tmp_path))
    ana("python", "status", "acme-core", "archived", "--reason", "a\x1b[2J", code=2)
    ana("python", "yank", "acme-core==1.0", "--reason", "a\nb", code=2)
    assert ana("python", "show", "acme-core", "--json").json["status"] == "active"


# --- save ------------------------------------------------------------------------------------


@pytest.fixture
def index(ana: Machine, tmp_path: Path) -> Iterator[wheels.Index]:
    made = [wheels.wheel(tmp_path, "acme-app", "1.0", ["acme-core"]), wheels.wheel(tmp_path)]
    wheels.depot_of(tmp_path / "upstream", *made)
    with wheels.index_server(tmp_path / "upstream") as found:
        ana.env["UV_DEFAULT_INDEX"] = found.url
        yield found


def test_packages_are_saved(
    ana: Machine, index: wheels.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = "# what we need\n\nacme-app  # and more\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    said = ana("python", "save", "--stdin")
    assert said.out.startswith("Saved 2 files (")
    assert said.out.splitlines()[0].endswith(" in .depot-storage/python")
    assert "  acme_app-1.0-py3-none-any.whl\n" in said.out
    again = ana("python", "save", "acme-app==1.0", "--json").json
    assert again["added"] == []
    assert len(again["kept"]) == 2


def test_files_are_saved_as_they_are(ana: Machine, index: wheels.Index, tmp_path: Path) -> None:
    """What they depend on may be private: the public index is not asked for it."""
    path = wheels.wheel(tmp_path, "acme-tool", "3.0", ["acme-secret-sauce"])
    assert "acme_tool" in ana("python", "save", path).out
    assert index.log == []
    changed = wheels.wheel(tmp_path / "changed", "acme-tool", "3.0", code="changed = 1\n")
    said = ana("python", "save", changed, code=5)
    assert "acme_tool-3.0-py3-none-any.whl is in .depot-storage/python already" in said.error
    broken = tmp_path / "acme_core-1.0-py3-none-any.whl"
    broken.write_bytes(b"PK")
    assert "damaged" in ana("python", "save", broken, code=2).error


def test_what_can_not_be_saved(
    ana: Machine, index: wheels.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana("python", "save", code=2)
    said = ana("python", "save", "nothing==9", code=4)
    assert said.error.endswith(
        "for this environment: because nothing was not found in the package registry and you "
        "require nothing==9,"[:-1]
    )
    assert "check the names and versions" in said.err
    for option in ("-r", "-c", "--lock"):
        said = ana("python", "save", "acme-app", option, "no-such-file", code=4)
        assert "no-such-file matches no file" in said.error
    monkeypatch.setattr(sys, "stdin", io.StringIO("--index-url https://evil.example/\n"))
    assert "requirements alone" in ana("python", "save", "--stdin", code=2).error


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ("requirements.txt", "is a file", "dorky python save -r requirements.txt"),
        ("no-such.in", "is a file", "dorky python save -r no-such.in"),
        ("notes.md", "is a file", "dorky python save -r notes.md"),
        ("dist", "is a directory", "dorky python save dist/*"),
        ("./code", "is a directory", "python -m build ./code"),
        ("acme-app==", "Couldn't parse requirement", "dorky python save --help"),
        ("acme-app --python-version abc", "abc is no version of Python: write 3.12", ""),
        ("acme-app --platform nonsense", "nonsense is no platform: write manylinux", ""),
        ("acme-app --uploaded-prior-to then", "then is no date: write 2026-01-31", ""),
        ("acme-app --index-url acme", "is not a", "an index is written https://host/path"),
    ],
)
def test_what_is_no_requirement(
    ana: Machine, index: wheels.Index, words: str, said: str, hint: str
) -> None:
    for name in ("requirements.txt", "notes.md"):
        (ana.project / name).write_text("acme-app\n")
    for name in ("code", "dist"):
        (ana.project / name).mkdir()
    wheels.wheel(ana.project / "dist")
    told = ana("python", "save", *words.split(), code=2)
    assert said in told.error
    assert hint in told.err
    assert "/tmp" not in told.error


def test_a_directory_of_that_name_is_no_hindrance(ana: Machine, index: wheels.Index) -> None:
    (ana.project / "acme-app").mkdir()
    assert "acme_app" in ana("python", "save", "acme-app").out


# --- push ------------------------------------------------------------------------------------


def test_a_push_tells_why_it_failed_and_no_token(
    ana: Machine, index: wheels.Index, tmp_path: Path
) -> None:
    """An index that takes no files is asked."""
    kept(ana, wheels.wheel(tmp_path, version="7"))
    ana.env["DEPOT_AUTH_TOKEN"] = "s3cret-t0ken"
    said = ana("python", "push", index.url, "-vv", code=6)
    assert "501" in said.error
    assert "s3cret-t0ken" not in said.err + said.out
    said = ana("python", "push", "http://acme.example/simple/", code=2)
    assert "without TLS" in said.error
    ana("python", "push", index.url, "nothing", code=4)
    other = wheels.wheel(tmp_path / "other", code="other = 1\n")
    kept(ana, other)
    said = ana("python", "push", index.url, "acme-core", code=5)
    assert f"{other.name} is in {index.url} already" in said.error
    wheels.depot_of(tmp_path / "upstream", wheels.wheel(tmp_path, version="7"))
    ana("python", "remove", "acme-core==1.0", "--yes")
    done = ana("python", "push", index.url, "--json").json
    assert (done["added"], done["kept"]) == ([], ["acme_core-7-py3-none-any.whl"])


def test_a_push_says_what_helps(ana: Machine, tmp_path: Path) -> None:
    kept(ana, wheels.wheel(tmp_path))
    for status, code, hint in (
        (401, 6, "DEPOT_AUTH_TOKEN"),
        (403, 6, "DEPOT_AUTH_TOKEN"),
        (404, 4, "https://HOST/python/simple/"),
    ):
        with stub_server(lambda *_, status=status: Canned(status, "no")) as server:  # type: ignore[misc]
            said = ana("python", "push", f"{server.endpoint}/", code=code)
        assert hint in said.err
    _, context = self_signed(tmp_path)
    with stub_server(lambda *_: Canned(404), context) as server:
        said = ana("python", "push", f"{server.endpoint}/", code=8)
    assert "its TLS certificate is not trusted" in said.error
    assert "export SSL_CERT_FILE=FILE" in said.err


# --- index -----------------------------------------------------------------------------------


def test_an_index_is_published_if_that_is_meant(ana: Machine, tmp_path: Path) -> None:
    kept(ana, wheels.wheel(tmp_path))
    said = ana("python", "index", "public", code=5)
    assert "Anyone who can read public can read 1 file (" in said.err
    assert "nothing was published" in said.error
    assert not (ana.project / "public").exists()
    assert "Published 1 file of 1 project\n" in ana("python", "index", "public", "--yes").out
    assert (ana.project / "public/simple/acme-core/index.html").is_file()
    ana("python", "index", "public", "--yes", "--presign", "7d", code=2)
    ana("python", "index", "s3://acme/x", "--yes", "--presign", "8d", code=2)
    ana("python", "index", "s3://acme/x", "--presign", "7d", "--format", "html", code=2)
    ana("python", "index", "ftp://acme/x", "--yes", code=2)


def test_an_index_of_nothing_takes_nothing_back(ana: Machine, tmp_path: Path) -> None:
    """Run in another directory, it would delete all that is published."""
    kept(ana, wheels.wheel(tmp_path), wheels.wheel(tmp_path, "acme-app"))
    ana("python", "index", "public", "--yes")
    published = ana.project / "public/files/acme-core/acme_core-1.0-py3-none-any.whl"
    said = ana("python", "index", "public", "--yes", "--dir", "elsewhere", code=4)
    assert "There are no Python packages in elsewhere" in said.error
    assert published.is_file()
    kept(ana, wheels.wheel(tmp_path, "acme-app"), directory="other")
    said = ana("python", "index", "public", "--dir", "other", code=5)
    assert "1 published file will be deleted" in said.err
    assert published.is_file()
    ana("python", "index", "public", "--dir", "other", "--yes")
    assert not published.exists()


@pytest.mark.parametrize("out", ["{depot}", "{depot}/files", "{depot}/../python/files/x"])
def test_an_index_is_not_published_among_the_packages(
    ana: Machine, tmp_path: Path, out: str
) -> None:
    kept(ana, wheels.wheel(tmp_path))
    depot = ana.project / ".depot-storage/python"
    before = sorted(depot.rglob("*"))
    said = ana("python", "index", out.format(depot=depot), "--yes", code=2)
    assert "among the packages themselves" in said.error
    assert sorted(depot.rglob("*")) == before


def test_a_place_that_no_index_can_have(ana: Machine, s3_url: Remote, tmp_path: Path) -> None:
    kept(ana, wheels.wheel(tmp_path))
    (ana.project / "file").write_text("")
    assert "file is no directory" in ana("python", "index", "file", "--yes", code=2).error
    ana.env.update(s3_url.env)
    said = ana("python", "index", "s3://not-there/pkg", "--yes", code=4)
    assert "The bucket of s3://not-there does not exist" in said.error
    assert "dorky bucket create s3://not-there" in said.err
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del ana.env[name]
    ana.env["AWS_EC2_METADATA_DISABLED"] = "true"
    said = ana("python", "index", f"{s3_url.url}/pkg", "--yes", code=6)
    assert "No credentials for s3://" in said.error


def test_links_of_a_session_are_warned_of(ana: Machine, s3_url: Remote, tmp_path: Path) -> None:
    kept(ana, wheels.wheel(tmp_path))
    ana.env.update(s3_url.env)
    words = ("python", "index", f"{s3_url.url}/pkg", "--presign", "12h", "--yes")
    said = ana(*words)
    assert "temporary" not in said.err
    [line] = said.out.splitlines()  # nothing else: LINKS=$(dorky python index …)
    assert "X-Amz-Expires=43200" in line
    ana.env["AWS_SESSION_TOKEN"] = "token"
    assert "Your AWS credentials are temporary" in ana(*words).err


# --- all of it -------------------------------------------------------------------------------


def test_the_bucket_learns_no_package(ana: Machine, file_url: Remote, tmp_path: Path) -> None:
    assert "To commit" not in ana("python", "save", wheels.wheel(tmp_path)).err
    ana("init", file_url.url)
    said = ana("python", "save", wheels.sdist(tmp_path))
    assert "To commit and push them: dorky save .depot-storage/python\n" in said.err
    assert "To commit" not in ana("python", "save", wheels.sdist(tmp_path)).err
    ana("save", ".depot-storage", "-m", "packages")
    held = b"".join(path.read_bytes() for path in Path(file_url.url).rglob("*") if path.is_file())
    assert held
    assert b"acme" not in held
    assert b"PKG-INFO" not in held
    with ana.here(), DorkyClient() as client:
        depot = Depot(storage.Remote(client, ".depot-storage/python"))
        assert [entry.filename for entry in depot.project("acme-core").files] == [
            "acme_core-1.0-py3-none-any.whl",
            "acme_core-1.0.tar.gz",
        ]
        assert b"Name: acme-core" in depot.metadata("acme_core-1.0.tar.gz")


def test_two_members_add_wheels_of_one_version(
    ana: Machine, file_url: Remote, tmp_path: Path
) -> None:
    ana("init", file_url.url)
    ana("python", "save", wheels.sdist(tmp_path))
    ana("save", ".depot-storage", "-m", "packages")
    ben = ana.another("ben")
    (ben.project / ".dorkyrc").write_bytes((ana.project / ".dorkyrc").read_bytes())
    ben("pull")
    for machine, tag in ((ana, "cp312-cp312-win_amd64"), (ben, "cp312-cp312-linux_x86_64")):
        machine("python", "save", wheels.wheel(tmp_path, tag=tag))
        machine("stage", ".depot-storage")
        machine("commit", "-m", tag)
    ana("push")
    ben("sync")
    assert len(ben("python", "show", "acme-core", "--json").json["files"]) == 3
