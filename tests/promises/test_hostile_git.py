"""A git repository's own configuration, and GIT_ variables, have git run nothing for dorky."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from machines import Machine

from dorky import git
from dorky.keys import age as identities

SIGNED = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----\n\n"

# Every key by which git runs something, and more than dorky's own questions could ever reach.
KEYS = (
    *("core.fsmonitor", "gpg.program", "gpg.ssh.program", "gpg.x509.program", "core.pager"),
    *("pager.log", "pager.config", "core.sshCommand", "core.askPass", "core.gitProxy"),
    *("core.editor", "sequence.editor", "diff.external", "diff.all.textconv", "diff.all.command"),
    *("filter.all.clean", "filter.all.smudge", "filter.all.process", "merge.all.driver"),
    *("credential.helper", "core.alternateRefsCommand", "uploadpack.packObjectsHook"),
    *("alias.ls-files", "alias.rev-list", "alias.rev-parse", "alias.check-ignore", "alias.log"),
)
VARIABLES = (
    *("GIT_EXTERNAL_DIFF", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "SSH_ASKPASS", "GIT_PAGER"),
    *("PAGER", "GIT_EDITOR", "EDITOR", "GIT_PROXY_COMMAND", "GIT_SEQUENCE_EDITOR"),
)


def run(top: Path, *words: str, given: str = "") -> str:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.test"]
    done = subprocess.run(
        ["git", *who, *words],
        cwd=top,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def evil(ana: Machine) -> Path:
    """A program that leaves a mark when it is run."""
    script = ana.base / "evil.sh"
    script.write_text(f'#!/bin/sh\necho "$0 $*" >> {ana.base}/ran\nexit 1\n')
    script.chmod(0o755)
    return script


def ran(ana: Machine) -> str:
    mark = ana.base / "ran"
    return mark.read_text() if mark.exists() else ""


@pytest.fixture
def project(ana: Machine) -> Machine:
    """A project in git, whose last commit looks signed."""
    vault = ana.base / "vault"
    run(ana.project, "init", "-q", "-b", "main")
    ana("init", vault)
    ana.commit({".env": "KEY=1\n"}, "first")
    ana("push")
    ana.write("code.py", "pass\n")
    ana.write(".gitattributes", "* diff=all filter=all merge=all\n")
    run(ana.project, "add", "-A")
    run(ana.project, "commit", "-q", "-m", "x")
    header, _, message = run(ana.project, "cat-file", "commit", "HEAD").partition("\n\n")
    signed = run(
        ana.project,
        *("hash-object", "-t", "commit", "-w", "--stdin"),
        given=f"{header}\n{SIGNED}{message}",
    )
    run(ana.project, "update-ref", "HEAD", signed.strip())
    return ana


def work(ana: Machine) -> None:
    """Run each command that asks git something, and some that need not."""
    ana.write(".env", "KEY=2\n")
    ana.write("new/.env", "KEY=1\n")
    for words in (
        ["status"],
        ["stage", ".env", "new/.env"],
        ["commit", "-m", "more"],
        ["rm", "--cached", "new/.env"],
        ["restore", "--rev", "HEAD", "."],
        ["pull"],
        ["push"],
        ["log"],
        ["diff"],
        ["team", "list"],
        ["doctor"],
        ["run", "--mask", "--", "true"],
    ):
        ana.run(*words)
    # Somebody without a key is told who committed .dorkyrc.
    shutil.rmtree(ana.state)
    ana.env["DORKY_IDENTITY"] = identities.generate().secret
    assert "tell Ada, who committed .dorkyrc," in ana("pull", code=6).hint


def by_keys(ana: Machine, evil: Path) -> None:
    config = ana.project / ".git/config"
    lines = []
    for key in KEYS:
        section, _, name = key.rpartition(".")
        section, _, sub = section.partition(".")
        value = f"!{evil}" if section in {"alias", "credential"} else str(evil)
        heading = f'[{section} "{sub}"]' if sub else f"[{section}]"
        lines.append(f"{heading}\n\t{name} = {value}\n")
    lines.append("[log]\n\tshowSignature = true\n")
    config.write_text(config.read_text() + "".join(lines))


def by_include(ana: Machine, evil: Path) -> None:
    by_keys(ana, evil)
    config = ana.project / ".git/config"
    (ana.project / "settings").write_text(config.read_text())
    run(ana.project, "config", "-f", ".git/plain", "core.repositoryFormatVersion", "0")
    config.write_text(
        f"[core]\n\trepositoryformatversion = 0\n[include]\n\tpath = {ana.project}/settings\n"
    )


def by_hooks(ana: Machine, evil: Path) -> None:
    hooks = ana.project / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "fsmonitor-watchman", "reference-transaction", "pre-auto-gc"):
        (hooks / name).symlink_to(evil)
    run(ana.project, "config", "core.hooksPath", str(hooks))
    run(ana.project, "config", "core.untrackedCache", "true")
    run(ana.project, "config", "core.splitIndex", "true")


def by_variables(ana: Machine, evil: Path) -> None:
    ana.env |= {name: str(evil) for name in VARIABLES}
    pairs = [*((key, str(evil)) for key in KEYS), ("log.showSignature", "true")]
    for number, (key, value) in enumerate(pairs):
        ana.env |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    ana.env["GIT_CONFIG_COUNT"] = str(len(pairs))
    ana.env["GIT_CONFIG_PARAMETERS"] = " ".join(f"'{key}={value}'" for key, value in pairs)


def by_programs(ana: Machine, evil: Path) -> None:
    programs = ana.base / "programs"
    programs.mkdir()
    for name in ("git", "git-ls-files", "git-rev-list", "git-config", "gpg", "ssh", "less"):
        (programs / name).symlink_to(evil)
    ana.env["GIT_EXEC_PATH"] = str(programs)


@pytest.mark.parametrize("arm", [by_keys, by_include, by_hooks, by_variables, by_programs])
def test_nothing_is_run(project: Machine, evil: Path, arm: Callable[[Machine, Path], None]) -> None:
    arm(project, evil)
    work(project)
    assert ran(project) == ""


def test_a_missing_object_is_not_fetched(project: Machine, evil: Path) -> None:
    """A partial clone would get it through ssh, or whatever program its URL names."""
    top = project.project
    tree = run(top, "rev-parse", "HEAD^{tree}").strip()
    for url in (f"ext::{evil} x", "ssh://host.test/x", "foo::bar"):
        run(top, "config", "remote.origin.url", url)
        run(top, "config", "remote.origin.promisor", "true")
        run(top, "config", "remote.origin.partialclonefilter", "tree:0")
        run(top, "config", "core.repositoryFormatVersion", "1")
        run(top, "config", "extensions.partialClone", "origin")
        run(top, "config", "protocol.allow", "always")
        run(top, "config", "core.sshCommand", str(evil))
        (top / ".git/objects" / tree[:2] / tree[2:]).unlink(missing_ok=True)
        assert git.last_author(top / ".dorkyrc") == ""
        assert ran(project) == ""


def test_an_index_that_asks_for_a_monitor(project: Machine, evil: Path) -> None:
    by_keys(project, evil)
    subprocess.run(
        ["git", "update-index", "--fsmonitor"], cwd=project.project, check=False, timeout=60
    )
    (project.base / "ran").unlink(missing_ok=True)
    work(project)
    assert ran(project) == ""


def test_a_directory_shaped_like_a_bare_repository(project: Machine, evil: Path) -> None:
    """git takes it for a repository where no `.git` lies; its configuration is the tree's."""
    bare = project.project / "data"
    run(project.base, "init", "-q", "--bare", str(bare))
    with (bare / "config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = {evil}\n\tworktree = ..\n")
    project.write("data/.env", "KEY=1\n")
    with project.here():
        os.chdir(bare)
        assert git.find(bare) == project.project
        assert git.tracked(project.project, [bare / ".env"]) == set()
    assert ran(project) == ""


def test_what_hooks_there_are_is_told_all_the_same(project: Machine) -> None:
    hooks = project.project / "hooks"
    hooks.mkdir()
    (hooks / "post-merge").write_text("dorky pull\n")
    run(project.project, "config", "core.hooksPath", "hooks")
    assert git.hooks(project.project) == {"post-merge": hooks / "post-merge"}


def test_git_is_started_in_one_place() -> None:
    """See also what modules start programs at all, in the tests of the children's environment."""
    source = Path(git.__file__).parent
    naming = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if re.search(r"""find_program\(["']git|\[["']git["']""", path.read_text())
    }
    assert naming == {"git.py"}
