"""docs/reference/json.md says what each command prints: here the commands are run."""

from __future__ import annotations

import io
import runpy
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest
import wheels
from machines import Machine

from dorky import results

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = runpy.run_path(str(DOCS / "records.py"))
ANSWERS: dict[str, Any] = PAGE["ANSWERS"]


def is_a(result: Any, kind: Any) -> bool:
    """Whether a result has the type that the page gives it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list:
        return isinstance(result, (list, tuple)) and all(is_a(one, arguments[0]) for one in result)
    if origin is dict:
        return isinstance(result, dict) and all(isinstance(one, str) for one in result.values())
    if origin is not None:
        return any(is_a(result, one) for one in arguments)
    return type(result) is kind


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The results that commands print as JSON."""
    found: list[Any] = []
    convert = msgspec.to_builtins

    def spy(result: Any, **options: Any) -> Any:
        found.append(result)
        return convert(result, **options)

    monkeypatch.setattr(msgspec, "to_builtins", spy)
    return found


def test_every_command_prints_what_the_page_says(
    project: Machine,
    shown: list[Any],
    file_url: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, set[type]] = {}

    def check(*words: object, code: int = 0) -> Any:
        shown.clear()
        said = project(*words, "--json", code=code)
        typed = [str(word) for word in words]
        name = " ".join(typed[:2]) if " ".join(typed[:2]) in ANSWERS else typed[0]
        result = shown[-1]  # the library converts records of its own before
        assert is_a(result, ANSWERS[name]), (name, result)
        # Decoding the output gives the printed record: all its fields, and no other.
        kind = type(result[0]) if isinstance(result, (list, tuple)) and result else type(result)
        first = said.json[0] if isinstance(result, (list, tuple)) and result else said.json
        if issubclass(kind, msgspec.Struct):
            assert list(first) == [field.name for field in msgspec.structs.fields(kind)]
        seen.setdefault(name, set()).add(kind)
        return said.json

    check("doctor", code=project.run("doctor").code)
    check("remote", "list")
    project("remote", "add", "origin", file_url.url)
    check("remote", "list")
    check("config", "get", "remotes.origin.url")
    check("config", "list")
    check("config", "list", "--all")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"1")))
    check("set", ".env", "NEW", "--stdin")
    check("get", ".env", "NEW")
    check("get", ".env")
    check("unset", ".env", "NEW")
    project.env["EDITOR"] = "sh -c 'echo E=1 >> \"$1\"' -"
    check("edit", ".env")
    project.write("one.env", b"A=1\n")
    check("stage", "one.env")
    check("unstage", "one.env")
    project("stage", "one.env")
    check("status")
    check("diff", "--staged")
    check("commit", "-m", "one")
    check("log")
    check("show")
    check("ls")
    check("push")
    check("fetch")
    check("pull")
    check("sync")
    project.write("saved.env", b"A=1\n")
    check("save", "saved.env", "-m", "saved")
    check("rm", "one.env", "--cached")
    check("restore", "one.env", "--staged")
    check("restore", "one.env", "--source", "HEAD")
    check("checkout", "HEAD~1")
    check("checkout", "main")
    check("op", "log")
    check("rm", "one.env")
    check("undo")
    check("fsck")
    check("fsck", "--repair")
    check("gc", "--dry-run")
    check("gc", "--remote", "--dry-run")
    check("key", "show")
    check("key", "list")
    check("key", "gen", tmp_path / "made")
    check("key", "gen", "--signing", tmp_path / "release.pem")
    project("sync")
    check("key", "gen", "--ci", "deploy")
    check("team", "list")
    check("team", "log")
    ben = Machine(tmp_path / "ben", project.env)
    key = ben("key", "gen", "--json").json["recipient"]
    check("team", "add", "ben", key)
    check("team", "set-role", "deploy", "writer")
    check("team", "log")
    check("group", "add", "prod", "prod/**")
    check("group", "list")
    check("group", "members", "prod", "--add", "ben")
    check("group", "members", "prod", "--remove", "ben")
    check("group", "remove", "prod", "--dry-run")
    check("team", "exposed", "ben")
    check("team", "remove", "ben", "--yes")
    check("rotate")
    project("sync")
    project.write("up", b"x")
    check("upload", "up", "data/up")
    check("stat", "data/up")
    project("sync")
    check("purge", "one.env", "--dry-run")
    check("mirror", "origin", tmp_path / "copy")
    check("cache", "stats")
    check("cache", "clear")
    check("sign", "saved.env")
    check("verify", "saved.env")
    check("signatures", "saved.env")
    project.write("build.json", '{"by": "hand"}')
    check("attest", "saved.env", "--type", "build", "--predicate", "build.json")
    check("attestations", "saved.env")
    project.write("bom.json", '{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    check("sbom", "attach", "saved.env", "bom.json")
    check("sbom", "get", "saved.env")
    check("sbom", "list", "saved.env")
    project("bundle", "export", "saved.env", "-o", "bundle.json")
    check("bundle", "import", "saved.env", "bundle.json")
    depot = project.project / "packages"
    check("python", "save", wheels.wheel(tmp_path), "--dir", depot)
    check("python", "list", "--dir", depot)
    check("python", "show", "acme-core", "--dir", depot)
    check("python", "index", tmp_path / "index", "--dir", depot, "--yes")
    with wheels.index_server(depot) as index:
        check("python", "push", index.url, "--dir", depot)
    check("python", "yank", "acme-core==1.0", "--dir", depot)
    check("python", "status", "acme-core", "archived", "--dir", depot)
    check("python", "remove", "acme-core", "--dir", depot, "--yes")
    check("python", "token", "ci")
    check("destroy", "--dry-run")
    # Commands that start something take a machine of their own.
    for words, machine in (
        (["init"], "init"),
        (["clone", file_url.url, "there"], "clone"),
    ):
        shown.clear()
        other = project.another(machine)
        other(*words, "--json")
        assert is_a(shown[-1], ANSWERS[words[0]]), words
        seen.setdefault(words[0], set()).add(type(shown[-1]))
    # These need a conflict, a stranger, a copied state, a forged root or a bucket: their own tests
    # decode the record.
    rest = {"resolve", "merge", "trust", "team join", "remote repair"}
    rest |= {name for name in ANSWERS if name.startswith("bucket ")}
    assert set(ANSWERS) - seen.keys() == rest
    assert seen["gc"] == {results.GCReport, results.RemoteGCReport}
    assert seen["fsck"] == {results.FsckReport, results.RepairReport}
    assert seen["restore"] == {results.CheckedOut, results.Staged}


def test_every_field_has_a_meaning() -> None:
    page = PAGE["page"]("")
    records = [
        kind
        for kind in vars(results).values()
        if isinstance(kind, type)
        and issubclass(kind, results.Result)
        and kind is not results.Result
    ]
    for record in records:
        assert f"### {record.__name__}\n" in page or record is results.Failure
        for field in msgspec.structs.fields(record):
            assert f"| `{field.name}` | " in page
    assert "None" not in page
    assert "Remedy" not in page
