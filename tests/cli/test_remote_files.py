"""Files of a remote from the command line, with a project around and without."""

from __future__ import annotations

from machines import Machine
from servers import Remote
from teams import cloned


def test_files_go_up_and_are_told_of(ana: Machine, file_url: Remote) -> None:
    ana("init", file_url.url)
    ana.commit({"a": "1"})
    ana("push")
    other = ana.another("other")
    other.write("run/model.bin", b"weights")
    other.write("b.csv", b"1")
    said = other(
        "upload", "run/model.bin", "models/v3.bin", "--remote", file_url.url, "-m", "train"
    )
    assert said.out == "Uploaded models/v3.bin (7 B)\n"
    many = other(
        *("upload", "run/model.bin", "b.csv", "data/", "--remote", file_url.url),
        *("--metadata", "k=v=w", "--content-type", "x/y", "--json"),
    ).json
    assert [info["path"] for info in many] == ["data/model.bin", "data/b.csv"]
    found = other("stat", "data/b.csv", "--remote", file_url.url, "--json").json
    assert (found["custom"], found["content_type"]) == ({"k": "v=w"}, "x/y")
    out = other("stat", f"{found['version']}:models/v3.bin", "--remote", file_url.url).out
    assert "size     7 B" in out
    assert not (other.project / ".dorky").exists()
    # A fresh clone of git's has nothing but `.dorkyrc`.
    fresh = cloned(ana, "fresh")
    fresh.identity.parent.mkdir(mode=0o700)
    fresh.identity.write_bytes(ana.identity.read_bytes())
    fresh.identity.chmod(0o600)
    assert fresh("stat", "models/v3.bin", "--json").json["size"] == 7
    assert "train" in ana.run("fetch").out + ana("log", "origin/main").out
    ana("pull")
    assert ana.read("models/v3.bin") == b"weights"


def test_what_is_wrong_with_an_upload(ana: Machine, file_url: Remote) -> None:
    ana("init", file_url.url)
    ana("remote", "list")
    ana.write("x", b"1")
    url = ("--remote", file_url.url)
    ana("upload", "x", *url)
    version = ana("stat", "x", *url, "--json").json["version"]
    ana.write("x", b"2")
    ana("upload", "x", *url, "--if-version", version)
    ana.write("x", b"3")
    assert (
        "not as you last saw it" in ana("upload", "x", *url, "--if-version", version, code=5).error
    )
    ana("upload", "x", *url, "--if-version", "0", code=4)
    ana("upload", "x", *url, "--metadata", "k", code=2)
    ana("upload", "x", "x", "y", *url, code=2)
    ana("upload", "none", *url, code=4)
    ana("upload", "x", "../y", *url, code=2)
    ana("stat", "none", *url, code=4)
    missing = ana("stat", "x", "--remote", f"{file_url.url}-none", code=4)
    assert "holds no dorky repository" in missing.error
