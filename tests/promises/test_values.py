"""No command shows a value that it was not asked for: not in output, errors, logs, tracebacks."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from depth import deep
from machines import Machine, Said
from servers import Remote
from teams import cloned

from dorky.cli import main
from dorky.documents.export import Form
from dorky.keys import age

CANARY = "canary-zq9x"
HIDDEN = (CANARY, CANARY.upper(), "zq9x", CANARY.encode().hex(), "Y2FuYXJ5LXpxOX")
FILES = {
    ".env": f"# {CANARY}\nKEY={CANARY}-1\nexport OTHER='{CANARY} two'\n",
    "config.json": f'{{"db": {{"password": "{CANARY}", "port": 1}}}}\n',
    "config.toml": f'[db]\npassword = "{CANARY}"\n',
    "config.yaml": f"db:\n  password: {CANARY}\n  list: [{CANARY}]\n",
    "binary": b"\0" + CANARY.encode() * 100,
    # Malformed where the value stands, so that a parser would love to quote it.
    "bad.env": f"KEY='{CANARY}\nwhat {CANARY} is this\n",
    "bad.json": f'{{"key": {CANARY}}}',
    "bad.toml": f'key = {CANARY}"\n',
    "bad.yaml": f"key: '{CANARY}\n- [{CANARY}\n",
    "bad-type.env": f"{CANARY}\x01=\n".encode() + b"\xff",
}
BAD = [path for path in FILES if path.startswith("bad")]
DOCUMENTS = [".env", "config.json", "config.toml", "config.yaml", *BAD]
ASKED = {"cat", "get", "export"}
"""What prints values to standard output, because that is what is wanted; never to the other."""


def commands(group: Any = None, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that there is."""
    for name, each in (group or main.everything()).commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, (*prefix, name))
        else:
            yield (*prefix, name)


class Story:
    """Runs commands, whatever they answer, and remembers which were run and what was said.

    Args:
        quiet: Run each without `-vv` first, which adds to what is said, and takes nothing away.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.ran: set[tuple[str, ...]] = set()
        self.said: list[tuple[tuple[str, ...], Said]] = []
        self.known = set(commands())

    def __call__(self, machine: Machine, *arguments: object, stdin: str = "") -> Said:
        words = tuple(str(each) for each in arguments)
        command = next(words[:n] for n in (2, 1) if words[:n] in self.known)
        self.ran.add(command)
        with mock.patch.object(sys, "stdin", _Typed(stdin)):
            cut = words.index("--") if "--" in words else len(words)
            ways = [words] * self.quiet + [(*words[:cut], "-vv", *words[cut:])]
            first, *more = (machine.run(*way) for way in ways)
        self.said += [(words, said) for said in (first, *more)]
        return first


class _Typed:
    """Standard input that is no terminal."""

    def __init__(self, text: str) -> None:
        self.buffer = io.BytesIO(text.encode())

    def isatty(self) -> bool:
        return False

    def readline(self) -> str:
        return self.buffer.readline().decode()


def conflict(story: Story, ana: Machine, ben: Machine) -> None:
    """Merge changes of two people to every file, and take back what was done."""
    for machine, side in ((ana, b"ana"), (ben, b"ben")):
        raw = {
            path: text if isinstance(text, bytes) else text.encode() for path, text in FILES.items()
        }
        machine.commit({path: each.replace(b"zq9x", b"zq9x-" + side) for path, each in raw.items()})
    story(ana, "push")
    story(ben, "sync")
    for command in (["status"], ["status", "-s"], ["status", "--json"], ["diff"], ["pull"]):
        story(ben, *command)
    for command in (["commit", "-m", "early"], ["push"], ["sync", "--json"], ["checkout", "main"]):
        story(ben, *command)
    for path in (*FILES, "nowhere"):
        story(ben, "resolve", path)
    story(ben, "resolve", ".env", "--ours", "--json")
    story(ben, "merge")
    story(ben, "merge", "--abort", "--json")
    story(ben, "pull", "--json")
    ben.write("config.toml", f'password = "{CANARY}-edited"\n')
    story(ben, "resolve", ".", "--theirs")
    story(ben, "op", "log")
    story(ben, "merge", "--continue")
    ben.write(".env", f"KEY={CANARY}-edited\n")
    story(ben, "undo")
    story(ben, "undo", "2", "--force")
    story(ben, "undo", "--json")
    story(ben, "undo", "99")
    story(ben, "op", "log", "--json")
    story(ben, "merge", "--abort")
    story(ben, "sync")


@pytest.fixture(params=[False, *deep(True)], ids=["loud", "quiet and loud"])
def told(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    s3_url: Remote,
    caplog: pytest.LogCaptureFixture,
) -> Story:
    """All commands, run by two people on files that are full of canaries."""
    caplog.set_level(logging.INFO)
    story = Story(quiet=request.param)
    ana = Machine(tmp_path / "ana", {**s3_url.env, "EDITOR": "true"})
    for path, content in FILES.items():
        ana.write(path, content)
    story(ana, "help")
    for arguments in (
        ["gen"],
        ["gen", "--signing", ana.base / "k.pem"],
        ["show"],
        ["list"],
        ["use", ana.identity],
    ):
        story(ana, "key", *arguments)
    story(ana, "init", s3_url.url, "--name", "ana")
    story(ana, "status")
    story(ana, "stage", ".")
    story(ana, "add", "nowhere")
    story(ana, "status", "--json")
    story(ana, "commit", "-m", "first")
    story(ana, "push")
    for document in DOCUMENTS:
        story(ana, "get", document)
        story(ana, "get", document, "no.such.key")
        story(ana, "get", document, "", "--json")
        for form in Form:
            story(ana, "export", document, "-f", form.value)
        story(ana, "set", document, "fresh", stdin=f"{CANARY}-new\n")
        story(ana, "set", document, "db", stdin=f"{CANARY}-new\n")
        story(ana, "set", document, f"KEY={CANARY}")
        story(ana, "set", document, "KEY", f"{CANARY}")
        story(ana, "set", document, "KEY", stdin=f"{CANARY}\0\n")
        story(ana, "unset", document, "fresh")
        story(ana, "unset", document, "nothing")
        story(ana, "edit", document)
        story(ana, "run", "-f", document, "--", "no-such-program")
        story(ana, "run", "-f", document, "--mask", "--", "sh", "-c", 'echo "$KEY $OTHER" >&2')
    story(ana, "get", "binary")
    ana.write("path.env", f"LD_PRELOAD={CANARY}\nPATH={CANARY}\n")
    story(ana, "run", "-f", "path.env", "--", "true")
    for command in (["log"], ["show"], ["ls", "-l"], ["commit", "-a", "-m", "second"], ["push"]):
        story(ana, *command)
        story(ana, *command, "--json")
    for command in (["diff"], ["diff", "HEAD~1"], ["diff", "HEAD~1..HEAD"], ["diff", "--staged"]):
        for option in ((), ("--json",), ("--stat",), ("--name-only",), ("--exit-code",)):
            story(ana, *command, *option)
    ana.write("bad.yaml", f"key: '{CANARY}-x\n- [{CANARY}\n")
    ana.write("config.toml", f'[db]\npassword = "{CANARY}-x"\n')
    ana.write("config.json", f'{{"db": {{"password": "{CANARY}-x", "port": "{CANARY}"}}}}\n')
    ana.write(".env", f"# {CANARY}\n# {CANARY}\nKEY={CANARY}-1\nexport OTHER='{CANARY} two'\n")
    ana.write("binary", b"\0" + CANARY.encode() * 101)
    story(ana, "diff")
    story(ana, "diff", "--json")
    story(ana, "restore", ".")
    story(ana, "show", "HEAD")
    story(ana, "cat", "HEAD:.env")

    ben = cloned(ana, "ben")
    story(ben, "pull")
    story(ben, "doctor")
    story(ben, "team", "join", "ben")
    story(ana, "fetch")
    requests = story(ana, "team", "list", "--json").json["requests"]
    story(ana, "team", "add", "ben", "--fingerprint", requests[0]["key"]["fingerprint"])
    story(ben, "pull")
    story(ben, "clone", s3_url.url, "again")
    story(ben, "download", "main:.env", ben.base / "copy.env")
    ben.write(".env", f"KEY={CANARY}-ben\n")
    story(ben, "status")
    ana.commit({".env": f"KEY={CANARY}-ana\n"})
    story(ana, "push")
    story(ben, "pull")
    ben.commit({".env": f"KEY={CANARY}-ben\n"})
    story(ben, "push")
    conflict(story, ana, ben)
    story(ana, "sync")
    ana.write("config.toml", f'password = "{CANARY}-saved"\n')
    story(ana, "save", "config.toml", "-m", "saved")
    story(ana, "save", "-m", "nothing is left", "--json")
    for option in ((), ("--json",)):
        story(ana, "upload", ana.project / ".env", "copies/.env", *option)
        story(ana, "stat", "copies/.env", *option)
    story(ana, "purge", "config.json", "--dry-run")
    story(ana, "purge", "config.json", "-m", "it leaked")
    story(ana, "purge", "config.json", "-m", "it leaked", "--yes", "--json")
    story(ana, "stage", "config.json")
    story(ana, "commit", "-m", "and back")
    story(ana, "push")
    story(ben, "sync")
    ben.write(".env", f"KEY={CANARY}-edited\n")
    story(ben, "pull", "--force")
    story(ben, "restore", ".env", "--source", "origin/main")
    story(ben, "checkout", "HEAD~1")
    story(ben, "checkout", "main", "--force")
    story(ben, "unstage", ".env")
    story(ben, "rm", "binary")
    story(ana, "group", "add", "prod", "*.json", "--dry-run")
    for command in (
        ["add", "prod", "*.json"],
        ["list"],
        ["members", "prod", "--add", "ben"],
        ["members", "prod", "--remove", "ben"],
        ["remove", "prod"],
    ):
        story(ana, "group", *command)
    story(ana, "rotate")
    story(ana, "team", "add", "cleo", age.generate().public)
    story(ana, "team", "remove", "cleo", "--dry-run")
    story(ana, "team", "set-role", "ben", "admin")
    story(ana, "team", "log")
    story(ana, "team", "exposed", "ben")
    story(ana, "team", "remove", "ben")
    story(ben, "pull")
    story(ana, "doctor")
    for command in (["list"], ["get", "user.name"], ["set", "user.name", "Ana"]):
        story(ana, "config", *command)
    story(ana, "config", "unset", "user.name")
    for options in ([], ["--remote"], ["--read-data", "--json"], ["--keyless"], ["--rebuild"]):
        story(ana, "fsck", *options)
    for options in (["--dry-run"], ["--grace", "0"], ["--prune-remote-verified"], ["--remote"]):
        story(ana, "gc", *options)
    story(ana, "remote", "repair", "--yes")
    for command in (["create"], ["list"], ["validate"], ["delete"]):
        story(ana, "bucket", *command, "s3://acme-more", *(["--yes"] * (command == ["delete"])))
    story(ana, "mirror", "origin", ana.base / "mirror")
    for command in ("show", "yank", "remove", "status", "index", "push"):
        story(ana, "python", command, "acme==1")
    story(ana, "python", "list")
    story(ana, "python", "save", "--lock", "nowhere.toml")
    for command in (["stats"], ["clear", "--dry-run"], ["clear"]):
        story(ana, "cache", *command)
    story(ana, "python", "serve", "--tls-cert", "missing.pem")
    story(ana, "python", "run", "--", "true")
    story(ana, "python", "token", "ci")
    story(ana, "remote", "list")
    story(ana, "sign", ".env")
    story(ana, "verify", ".env")
    story(ana, "signatures", ".env")
    ana.write("build.json", "{}")
    story(ana, "attest", ".env", "--type", "build", "--predicate", "build.json")
    story(ana, "attestations", ".env")
    ana.write("bom.json", '{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    story(ana, "sbom", "attach", ".env", "bom.json")
    story(ana, "sbom", "get", ".env")
    story(ana, "sbom", "list", ".env")
    story(ana, "bundle", "export", ".env", "-o", "bundle.json")
    story(ana, "bundle", "import", ".env", "bundle.json")
    story(ana, "remote", "set-url", "origin", s3_url.url)
    story(ana, "remote", "add", "other", s3_url.url)
    story(ana, "remote", "remove", "other")
    story(ana, "remote", "allow", "s3://acme-vault", "--profile", "acme")
    story(ana, "trust", "--yes")
    story(ana, "destroy", "--yes")
    return story


def test_no_value_is_shown_that_was_not_asked_for(
    told: Story, caplog: pytest.LogCaptureFixture
) -> None:
    assert told.known == told.ran, "every command has a part in the story"
    for words, said in told.said:
        shown = said.err if words[0] in ASKED else said.err + said.out
        assert not [each for each in HIDDEN if each in shown], (words, said)
    assert not [each for each in HIDDEN if each in caplog.text]
    # It could have been: what is asked for is there.
    assert any(CANARY in said.out for words, said in told.said if words[:2] == ("get", ".env"))
    assert any("Traceback" in said.err for _, said in told.said)
