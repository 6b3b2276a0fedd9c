"""Variables of files: where they are read from, and how they are changed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from machines import Machine, known
from servers import Remote

from dorky import errors
from dorky.cli import hints
from dorky.commands import variables
from dorky.config import Config
from dorky.documents.export import Form
from dorky.results import Edited

CANARY = "hunter2-canary-value"
FILE = f"# keys\nA=1\nSECRET='{CANARY}'\n"


@pytest.fixture
def project(ana: Machine) -> Machine:
    """Two revisions of a few files."""
    ana("init")
    ana.commit({".env": "A=0\n", "app.yaml": "db:\n  port: 1\n", "data.bin": b"\0\1"}, "first")
    ana.commit({".env": FILE}, "second")
    return ana


@pytest.fixture
def fresh(shared: Machine) -> Machine:
    """What a CI job has: a git clone with .dorkyrc, and the key."""
    made = shared.another("ci")
    shutil.copy(shared.project / ".dorkyrc", made.project)
    return made


# --- where content comes from ---------------------------------------------------------------


def test_the_file_on_disk_comes_first(project: Machine) -> None:
    project.write(".env", "A=2\n")
    with project.repo() as repo:
        assert repo.read(".env") == b"A=2\n"
        assert repo.read(".env", "HEAD") == FILE.encode()
        assert repo.read(".env", "HEAD~1") == b"A=0\n"


def test_then_what_is_staged(project: Machine) -> None:
    project.write(".env", "A=3\n")
    project("stage", ".env")
    (project.project / ".env").unlink()
    with project.repo() as repo:
        assert repo.read(".env") == b"A=3\n"
        assert not (project.project / ".env").exists()


def test_a_file_that_was_not_pulled(shared: Machine, fresh: Machine) -> None:
    fresh("pull", "app.yaml")
    with fresh.repo() as repo:
        assert repo.read(".env") == FILE.encode()
    assert list(fresh.files()) == ["app.yaml"]


def test_without_a_pull_what_the_remote_has(shared: Machine, fresh: Machine) -> None:
    with fresh.repo() as repo:
        assert repo.get(".env", "SECRET") == CANARY
        assert repo.get(".env", "A", "HEAD~1") == "0"
        assert repo.get(".env", "A", "main^") == "0"
        shared.commit({".env": "A=new\n"})
        shared("push")
        assert repo.get(".env", "A") == "new"
    assert fresh.files() == {}
    # It does not stand in the way of a pull.
    fresh("pull")
    assert fresh.read(".env") == b"A=new\n"


def test_a_file_on_disk_needs_no_key(fresh: Machine) -> None:
    fresh.identity.unlink()
    fresh.write(".env", "A=here\n")
    with fresh.repo() as repo:
        assert repo.get(".env", "A") == "here"
        assert not repo.is_set_up
        with pytest.raises(errors.IdentityMissing):
            repo.read("app.yaml")
        assert not repo.is_set_up


def test_files_that_are_nowhere(project: Machine, ana: Machine) -> None:
    project.write("d/x", "")
    with project.repo() as repo:
        with pytest.raises(errors.PathNotFound):
            repo.read("other.env")
        with pytest.raises(errors.PathNotTracked):
            repo.read("other.env", "HEAD")
        with pytest.raises(errors.UnknownRevision):
            repo.read(".env", "nowhere")
        for directory in ("d", "."):
            with pytest.raises(errors.UsageError, match="is a directory"):
                repo.read(directory)


def test_a_remote_without_commits(ana: Machine, file_url: Remote) -> None:
    ana("init", file_url.url)
    with ana.repo() as repo:
        with pytest.raises(errors.NoCommits):
            repo.read(".env")
        assert repo.set(".env", "A", "1").what == "added"


def test_links_are_followed_inside(project: Machine) -> None:
    project.write("env/prod.env", FILE)
    (project.project / "env/link").symlink_to("prod.env")
    (project.project / "x.env").symlink_to("env/link")
    (project.project / "out.env").symlink_to("../../home/x")
    (project.project / "abs.env").symlink_to("/etc/hosts")
    (project.project / "loop.env").symlink_to("loop.env")
    project("stage", "env", "x.env")
    project("commit", "-m", "links")
    with project.repo() as repo:
        assert repo.read("x.env") == FILE.encode()
        assert repo.read("x.env", "HEAD") == FILE.encode()
        for name in ("out.env", "abs.env", "loop.env"):
            with pytest.raises(errors.UsageError, match="is a link"):
                repo.read(name)
        (project.project / "env/prod.env").unlink()
        (project.project / "x.env").unlink()
        assert repo.read("x.env") == FILE.encode()
        assert repo.set("x.env", "A", "2") == Edited(path="env/prod.env", key="A", what="modified")


def test_a_file_of_a_group_that_one_is_not_in(shared: Machine) -> None:
    ben = shared.another("ben", identity=False)
    shutil.copy(shared.project / ".dorkyrc", ben.project)
    ben("key", "gen")
    shared("team", "add", "ben", ben("key", "show").out.strip())
    shared.commit({"prod/.env": FILE})
    shared("push")
    shared("group", "add", "prod", "prod/**")
    for _ in range(2):  # before and after a pull
        with ben.repo() as repo:
            assert repo.get(".env", "SECRET") == CANARY
            for revision in ("", "HEAD"):
                with pytest.raises(errors.ForeignGroup):
                    repo.read("prod/.env", revision)
        ben("pull")


def test_a_pipe_is_not_waited_for(project: Machine) -> None:
    (project.project / ".env").unlink()
    os.mkfifo(project.project / ".env")
    with project.repo() as repo, pytest.raises(errors.UnstorablePath):
        repo.read(".env")


# --- values ---------------------------------------------------------------------------------


def test_get(project: Machine) -> None:
    with project.repo() as repo:
        assert repo.get(".env", "SECRET") == CANARY
        assert repo.get("app.yaml", "db.port") == "1"
        assert repo.get("app.yaml", "db") == '{"port":1}'
        with pytest.raises(errors.NoSuchVariable) as caught:
            repo.get(".env", "SECRETS")
        assert hints.hint(caught.value) == "did you mean SECRET?"
        with pytest.raises(errors.UsageError) as refused:
            repo.get("data.bin", "A", "HEAD~1")
        assert hints.hint(refused.value) == "dorky cat 'HEAD~1:data.bin'"


def test_variables(project: Machine) -> None:
    with project.repo() as repo:
        assert repo.variables(".env") == {"A": "1", "SECRET": CANARY}
        assert repo.variables(".env", only=["A"]) == {"A": "1"}
        assert repo.variables(".env", revision="HEAD~1") == {"A": "0"}
        assert repo.variables("app.yaml") == {"db.port": "1"}
        with pytest.raises(errors.NoSuchVariable):
            repo.variables(".env", only=["A", "B"])


def test_export(project: Machine) -> None:
    with project.repo() as repo:
        assert repo.export(".env", Form.SHELL, only=["A"]) == "export A='1'\n"
        assert repo.export(".env", Form.JSON, revision="HEAD~1") == '{\n  "A": "0"\n}\n'
        with pytest.raises(errors.CantExport):
            repo.export("app.yaml", Form.SHELL)


@pytest.mark.parametrize("data", [f"{CANARY} x\n", f"SECRET='{CANARY}\n"])
def test_no_error_quotes_a_value(project: Machine, data: str) -> None:
    project.write("bad.env", data)
    with project.repo() as repo:
        for call in (
            lambda: repo.get("bad.env", "A"),
            lambda: repo.environment(["bad.env"]),
            lambda: repo.set("bad.env", "A", CANARY),
        ):
            with pytest.raises(errors.BadDocument) as caught:
                call()
            assert CANARY not in str(caught.value) + hints.hint(caught.value) + repr(caught.value)


# --- environments ---------------------------------------------------------------------------


def test_later_files_win(project: Machine) -> None:
    project.write("b.env", "A=b\nB=b\n")
    with project.repo() as repo:
        assert repo.environment([".env", "b.env"]) == {"A": "b", "SECRET": CANARY, "B": "b"}
        assert repo.environment(["b.env", ".env"])["A"] == "1"
        assert repo.environment([".env", "b.env"], only=["B", "SECRET"]) == {
            "SECRET": CANARY,
            "B": "b",
        }
        with pytest.raises(errors.NoSuchVariable, match=r"^\.env, b\.env has no C$"):
            repo.environment([".env", "b.env"], only=["C"])


def test_the_file_that_is_meant_when_none_is_named(project: Machine) -> None:
    project.write("service/.env", "A=service\n")
    with project.repo() as repo:
        for directory in ("service", "/"):
            os.chdir(directory)
            assert repo.environment()["A"] == "1"
            assert repo.environment(revision="HEAD") == {"A": "1", "SECRET": CANARY}
        with pytest.raises(errors.PathNotTracked):
            repo.environment(["service/.env"], revision="HEAD")


def test_dangerous_variables_are_refused(project: Machine) -> None:
    project.write("d/x.env", f"OK=1\nLD_PRELOAD={CANARY}\n")
    with project.repo() as repo:
        with pytest.raises(errors.UnsafeVariable) as caught:
            repo.environment(["d/x.env"])
        assert caught.value.message == (
            "d/x.env sets LD_PRELOAD, which changes how programs are found, loaded or run"
        )
        assert "--allow-env LD_PRELOAD" in hints.hint(caught.value)
        assert CANARY not in hints.hint(caught.value)
        assert repo.environment(["d/x.env"], only=["OK"]) == {"OK": "1"}
        assert repo.environment(["d/x.env"], allow=["LD_PRELOAD"])["LD_PRELOAD"] == CANARY


def test_names_that_no_variable_can_have(project: Machine) -> None:
    project.write("x.json", '{"A=B": "1", "C": "2"}')
    with project.repo() as repo:
        with pytest.raises(errors.UsageError, match=r"'A=B' in x\.json"):
            repo.environment(["x.json"])
        assert repo.environment(["x.json"], only=["C"]) == {"C": "2"}


# --- set and unset --------------------------------------------------------------------------


def test_set_keeps_all_else_and_stages(project: Machine) -> None:
    project.write(".env", FILE, 0o640)
    with project.repo() as repo:
        assert repo.set(".env", "A", "two words") == Edited(path=".env", key="A", what="modified")
        assert project.read(".env") == FILE.replace("A=1", "A='two words'").encode()
        assert stat.S_IMODE((project.project / ".env").stat().st_mode) == 0o640
        assert [each.path for each in repo.status().staged] == [".env"]
        assert not repo.status().unstaged


def test_a_value_that_is_there_is_not_written_again(project: Machine) -> None:
    with project.repo() as repo:
        before = (project.project / ".env").stat()
        assert repo.set(".env", "SECRET", CANARY).what is None
        assert (project.project / ".env").stat() == before
        assert repo.status().clean


@pytest.mark.parametrize("name", ["new.env", "d/new.json", "new.toml", "new.yaml"])
def test_a_new_file_is_nobody_elses(project: Machine, name: str) -> None:
    with project.repo() as repo:
        assert repo.set(name, "key", "value") == Edited(path=name, key="key", what="added")
        assert repo.get(name, "key") == "value"
        assert stat.S_IMODE((project.project / name).stat().st_mode) == 0o600
        assert [each.path for each in repo.status().staged] == [name]


def test_a_file_that_is_not_here_keeps_its_variables(shared: Machine, fresh: Machine) -> None:
    fresh("pull", "app.yaml")
    with fresh.repo() as repo:
        assert repo.set(".env", "A", "2").what == "modified"
    assert fresh.read(".env") == FILE.replace("A=1", "A=2").encode()


def test_nothing_is_set_before_a_pull(fresh: Machine) -> None:
    with fresh.repo() as repo:
        with pytest.raises(errors.NotSetUp):
            repo.set(".env", "A", "2")
        repo.get(".env", "A")
        for change in (
            lambda: repo.set(".env", "A", "2"),
            lambda: repo.set("new.env", "A", "2"),
            lambda: repo.unset(".env", "A"),
            lambda: repo.edit(".env", print),
        ):
            with pytest.raises(errors.NotSetUp):
                change()
    assert fresh.files() == {}


def test_unset(project: Machine) -> None:
    with project.repo() as repo:
        assert repo.unset(".env", "A") == Edited(path=".env", key="A", what="modified")
        assert project.read(".env") == FILE.replace("A=1\n", "").encode()
        with pytest.raises(errors.NoSuchVariable):
            repo.unset(".env", "A")
        with pytest.raises(errors.PathNotFound):
            repo.unset("new.env", "A")
    assert not (project.project / "new.env").exists()


def test_what_can_not_be_staged_is_not_written(project: Machine) -> None:
    subprocess.run(["git", "init", "-q", project.project], check=True)
    project.write("code.env", "A=1\n", 0o644)
    subprocess.run(["git", "-C", project.project, "add", "code.env"], check=True)
    project.write(".dorkyignore", "ignored.env\n")
    before = project.files()
    with project.repo() as repo:
        with pytest.raises(errors.GitTracked):
            repo.set("code.env", "SECRET", CANARY)
        with pytest.raises(errors.UsageError, match=r"ignored by \.dorkyignore"):
            repo.set("ignored.env", "SECRET", CANARY)
        with pytest.raises(errors.UnstorablePath):
            repo.set("a:b.env", "SECRET", CANARY)
        with pytest.raises(errors.UsageError, match=r"is not a \.env"):
            repo.set("data.bin", "SECRET", CANARY)
    assert project.files() == before


def test_git_is_told_to_ignore_a_new_file(project: Machine) -> None:
    subprocess.run(["git", "init", "-q", project.project], check=True)
    with project.repo() as repo:
        assert repo.set("new.env", "A", "1").ignored
    assert "new.env" in (project.project / ".gitignore").read_text()


def test_a_change_made_meanwhile_is_not_overwritten(
    project: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with project.repo() as repo:
        save = variables._save

        def late(*args: object) -> Edited:
            project.write(".env", "A=other\n")
            return save(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(variables, "_save", late)
        with pytest.raises(errors.LocalChanges):
            repo.set(".env", "A", "2")
    assert project.read(".env") == b"A=other\n"


# --- edit -----------------------------------------------------------------------------------


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in memory."""
    made = tmp_path / "memory"
    made.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made))
    return made


def writes(text: str) -> Callable[[Path], None]:
    return lambda draft: draft.write_text(text) and None


def test_edit(project: Machine, memory: Path) -> None:
    seen = []

    def editor(draft: Path) -> None:
        seen.append((draft.name, draft.read_text()))
        assert draft.parent.parent == memory
        for path, mode in ((draft, 0o600), (draft.parent, 0o700)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
        draft.with_name("backup~").write_text(FILE)
        draft.write_text("A=edited\n")

    with project.repo() as repo:
        assert repo.edit(".env", editor) == Edited(path=".env", what="modified")
        assert [each.path for each in repo.status().staged] == [".env"]
    assert seen == [(".env", FILE)]
    assert project.read(".env") == b"A=edited\n"
    assert list(memory.iterdir()) == []


def test_an_editor_that_saves_by_renaming(project: Machine, memory: Path) -> None:
    def editor(draft: Path) -> None:
        draft.with_suffix(".new").write_text("A=2\n")
        draft.with_suffix(".new").rename(draft)

    with project.repo() as repo:
        repo.edit(".env", editor)
    assert project.read(".env") == b"A=2\n"


def test_edit_without_a_change(project: Machine, memory: Path) -> None:
    before = (project.project / ".env").stat()
    with project.repo() as repo:
        rows = known(repo)
        assert repo.edit(".env", lambda _: None) == Edited(path=".env")
        assert repo.edit("new.env", lambda _: None) == Edited(path="new.env")
        assert known(repo) == rows
    assert (project.project / ".env").stat() == before
    assert not (project.project / "new.env").exists()
    assert list(memory.iterdir()) == []


def test_edit_of_a_new_file_and_of_one_without_keys(project: Machine, memory: Path) -> None:
    with project.repo() as repo:
        assert repo.edit("d/new.env", writes("A=1\n")) == Edited(path="d/new.env", what="added")
        assert repo.edit("data.bin", writes("not = a document")).what == "modified"
    assert project.read("d/new.env") == b"A=1\n"
    assert stat.S_IMODE((project.project / "d/new.env").stat().st_mode) == 0o600


@pytest.mark.parametrize("error", [errors.EditorFailed(1), KeyboardInterrupt()])
def test_an_editor_that_fails(project: Machine, memory: Path, error: BaseException) -> None:
    def editor(draft: Path) -> None:
        draft.write_text("A=2\n")
        raise error

    with project.repo() as repo, pytest.raises(type(error)):
        repo.edit(".env", editor)
    assert project.read(".env") == FILE.encode()
    assert list(memory.iterdir()) == []


def test_a_draft_that_is_malformed(project: Machine, memory: Path) -> None:
    with project.repo() as repo:
        with pytest.raises(errors.NotSaved) as caught:
            repo.edit(".env", writes(f"{CANARY} !\n"))
        assert project.read(".env") == FILE.encode()
        (draft,) = memory.glob("*/.env")
        assert draft.read_text() == f"{CANARY} !\n"
        assert str(draft) in caught.value.message
        assert "line 1" in caught.value.message
        assert CANARY not in str(caught.value)

        texts = iter(["B C", "A=2\n"])
        told: list[str] = []
        done = repo.edit(
            ".env",
            lambda draft: writes(next(texts))(draft),
            again=lambda flaw: not told.append(flaw.message),
        )
        assert done.what == "modified"
        assert len(told) == 1


def test_a_file_that_changes_during_the_edit(project: Machine, memory: Path) -> None:
    def editor(draft: Path) -> None:
        draft.write_text("A=mine\n")
        project.write(".env", "A=theirs\n")

    with project.repo() as repo, pytest.raises(errors.NotSaved) as caught:
        repo.edit(".env", editor)
    assert project.read(".env") == b"A=theirs\n"
    (draft,) = memory.glob("*/.env")
    assert draft.read_text() == "A=mine\n"
    assert str(draft) in caught.value.message


def test_a_draft_that_can_not_be_staged(project: Machine, memory: Path) -> None:
    subprocess.run(["git", "init", "-q", project.project], check=True)
    project.write("code.env", "A=1\n")
    subprocess.run(["git", "-C", project.project, "add", "code.env"], check=True)
    with project.repo() as repo, pytest.raises(errors.NotSaved, match="git tracks") as caught:
        repo.edit("code.env", writes("A=2\n"))
    assert hints.hint(caught.value) == "git rm --cached -- code.env"
    assert project.read("code.env") == b"A=1\n"
    assert len(list(memory.glob("*/code.env"))) == 1


def test_others_work_while_the_editor_is_open(project: Machine, memory: Path) -> None:
    def editor(draft: Path) -> None:
        project.commit({"other": "1"})
        draft.write_text("A=2\n")

    with project.repo() as repo:
        repo.edit(".env", editor)
    assert project.read(".env") == b"A=2\n"


def test_where_there_is_no_memory_the_draft_is_in_the_project(
    project: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Config, "memory", None)
    seen: list[Path] = []

    def editor(draft: Path) -> None:
        project("stage", ".env")  # clears what was left behind, but not this
        seen.append(draft)
        draft.write_text("A=2\n")

    with project.repo() as repo:
        repo.edit(".env", editor)
        assert seen[0].parent.parent == project.own
        assert not seen[0].parent.exists()
    assert project.read(".env") == b"A=2\n"
